import { finds } from './planted-bugs.ts'

finds('storage')
