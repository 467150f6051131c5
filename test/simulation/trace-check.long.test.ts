// Every planted bug, found again in what its run left on disk; and the same faults without it leave a clean trace.

import { CANARIES } from 'stellwerk/simulation/canaries.ts'
import { isFoundInItsTrace } from './recorded-bugs.ts'

for (const canary of CANARIES) isFoundInItsTrace(canary, { clean: true })
