// The simulator by itself: `npm run sim -- --seeds 200`. The same as `stellwerk sim`.

import { simCommand } from './sim-command.ts'

process.exitCode = await simCommand(process.argv.slice(2))
