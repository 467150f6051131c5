import { finds } from './planted-bugs.ts'

finds('mirror')
