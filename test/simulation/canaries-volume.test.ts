// Each planted bug of this part is found by the rule named for it, in a seed that is clean without it (planted-bugs.ts).

import { finds } from './planted-bugs.ts'

finds('volume')
