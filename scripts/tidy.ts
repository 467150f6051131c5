// The rules of the house that no type and no linter checks: only the environment touches the world, packages depend one way,
// files are small and say what they are. One function over one file's text; tidy.test.ts runs it over all of them.

import { codeOnly, type Import, importsOf } from './source-text.ts'

export interface Violation {
  readonly rule: string
  /** From 1; 0 for the file as a whole. */
  readonly line: number
  readonly message: string
}

const LINES_MAX = 500

/** Who may import whom. A package may always import itself. */
const DEPENDENCIES: Readonly<Record<string, readonly string[]>> = {
  runtime: [],
  protocol: ['runtime'],
  block: ['runtime', 'protocol'],
  csv: ['runtime', 'protocol', 'block'],
  storage: ['runtime', 'protocol', 'block', 'csv'],
  agent: ['runtime', 'protocol', 'block', 'csv', 'storage'],
  coordinator: ['runtime', 'protocol'],
  cli: ['runtime', 'protocol', 'block', 'csv', 'storage', 'agent', 'coordinator'],
}

/** Node's modules that compute and touch nothing. Of some, only what is named (or not named) below. */
const HARMLESS_MODULES = new Set([
  'node:assert',
  'node:async_hooks',
  'node:buffer',
  'node:crypto',
  'node:events',
  'node:path',
  'node:string_decoder',
  'node:url',
  'node:util',
  'node:v8',
  'node:zlib',
])
const TERMINAL_MODULES = new Set(['node:readline', 'node:tty'])
/** Packages that open sockets or files by themselves. */
const WORLDLY_PACKAGES = new Set(['ws', 'pino'])

/** Files below a rule's reach, and why. */
const EXCEPTIONS: readonly { readonly file: string; readonly rule: string; readonly because: string }[] = [
  {
    file: 'packages/runtime/src/sim/drain.ts',
    rule: 'world',
    because: 'the simulator drains real microtasks, for which it needs the real event loop',
  },
]

interface Pattern {
  readonly what: string
  readonly pattern: RegExp
}

/** A name that is a global: not a member of something. */
const global = (names: string) => new RegExp(String.raw`(?<![.\w$#])(?:${names})\b(?!\s*[:?])`, 'g')

const WORLD: readonly Pattern[] = [
  { what: 'the wall clock', pattern: global('Date') },
  { what: 'the system clock', pattern: global('performance') },
  { what: 'the system clock', pattern: /\bhrtime\b/g },
  { what: 'unseeded randomness', pattern: /\bMath\s*\.\s*random\b/g },
  { what: 'unseeded randomness', pattern: /(?<![.\w$#])crypto\s*\.\s*(?:random\w*|getRandomValues|subtle)/g },
  { what: 'a real timer', pattern: global('setTimeout|setInterval|setImmediate') },
  { what: 'a real timer', pattern: /\bAbortSignal\s*\.\s*timeout\b/g },
  { what: 'the real event loop', pattern: /(?<![.\w$#])process\s*\.\s*nextTick\b/g },
  { what: 'the network', pattern: /(?<![.\w$#])fetch\s*\((?![^()]*\)\s*[:{])/g },
  { what: 'the network', pattern: /\bnew\s+(?:WebSocket|EventSource|XMLHttpRequest)\b/g },
  { what: 'the garbage collector’s timing', pattern: global('WeakRef|FinalizationRegistry') },
  { what: 'the world by the back door', pattern: global('globalThis') },
]

/** Of the real process; `process` is also what other things are called, so only names that nothing else has. */
const PROCESS: Pattern = {
  what: 'the real process',
  pattern:
    /(?<![.\w$#])process\s*\.\s*(?:argv|env|stdout|stderr|stdin|cwd|uptime|memoryUsage|cpuUsage|threadCpuUsage)\b/g,
}

/** `path` is relative to the repository, with `/`. */
export function checkFile(path: string, text: string): Violation[] {
  const found: Violation[] = []
  const name = path.split('/').at(-1) ?? ''
  const isTest = name.endsWith('.test.ts')
  const isSupport = TEST_SUPPORT.test(path)
  const code = codeOnly(text)
  const imports = importsOf(text)
  const report = (rule: string, line: number, message: string) => {
    if (!EXCEPTIONS.some(exception => exception.file === path && exception.rule === rule))
      found.push({ rule, line, message })
  }

  const lines = text.split('\n').length - (text.endsWith('\n') ? 1 : 0)
  if (lines > LINES_MAX) report('length', 0, `has ${lines} lines, at most ${LINES_MAX}: split it by idea`)
  if (!/^[a-z0-9]+(-[a-z0-9]+)*((\.[a-z]+)?\.test|\.d)?\.ts$/.test(name))
    report('name', 0, 'is not named in kebab-case')
  if (!isTest && !/^\/[/*]/.test(text)) report('header', 1, 'does not begin with a comment that says what it is')
  for (const match of text.matchAll(UNFINISHED)) report('unfinished', lineOf(text, match.index), `says ${match[0]}`)
  checkSwallowed(text, code, isTest || isSupport, report)
  checkBarrel(path, code, imports, report)
  checkDependencies(path, imports, report)
  if (isTest || isSupport) return found
  for (const { specifier } of imports) {
    if (TEST_SUPPORT.test(specifier)) report('support', 0, `imports what only tests may: ${specifier}`)
  }
  if (!path.startsWith('packages/runtime/src/node/')) checkWorld(path, code, imports, report)
  return found
}

type Report = (rule: string, line: number, message: string) => void

/** Test support: started by tests, in need of what tests need, and of use to nobody else. */
const TEST_SUPPORT = /\/(?:testing|contract)\//

const UNFINISHED = new RegExp(String.raw`\b(?:${['TO' + 'DO', 'FIX' + 'ME', 'X' + 'XX'].join('|')})\b`, 'g')
const EMPTY_CATCH = /\bcatch\s*(?:\([^)]*\)\s*)?\{\s*\}/g
const DROPPED = /\.catch\(\s*(?:\(\s*\w*\s*\)|\w+)\s*=>\s*(?:\{\s*\}|undefined|null)\s*\)/g

/** An empty block is never right. A rejection may be dropped where a comment beside it says who else hears of it. */
function checkSwallowed(text: string, code: string, mayDrop: boolean, report: Report): void {
  for (const match of code.matchAll(EMPTY_CATCH)) report('swallowed', lineOf(code, match.index), 'has an empty catch')
  if (mayDrop) return
  const lines = text.split('\n')
  for (const match of code.matchAll(DROPPED)) {
    const line = lineOf(code, match.index)
    const isExplained = lines
      .slice(Math.max(0, line - 3), line)
      .some(near => near.includes('//') || near.includes('*/'))
    if (!isExplained) report('swallowed', line, 'drops an error without a word on who else hears of it')
  }
}

function checkBarrel(path: string, code: string, imports: readonly Import[], report: Report): void {
  if (path.endsWith('/index.ts')) report('barrel', 0, 'is an index file: import from the files themselves')
  if (/\bexport\s*\*/.test(code)) report('barrel', 0, 'exports everything of another file')
  const reExports = imports.filter(({ isReExport }) => isReExport)
  const rest = code.replace(/\bexport\s+(?:type\s+)?\{[^}]*\}\s*from\b/g, '').replace(/\bimport\b[^;\n]*/g, '')
  if (reExports.length > 0 && rest.trim() === '') report('barrel', 0, 'does nothing but export what others define')
}

function checkDependencies(path: string, imports: readonly Import[], report: Report): void {
  const owner = /^packages\/([^/]+)\/src\//.exec(path)?.[1]
  if (owner === undefined) return
  const allowed = DEPENDENCIES[owner]
  if (allowed === undefined) {
    report('dependency', 0, `is in a package that the tidy test does not know: ${owner}`)
    return
  }
  // How many directories the file lies below its package.
  const depth = path.split('/').length - 3
  for (const { specifier } of imports) {
    if (specifier.startsWith('.')) {
      const ups = specifier.split('/').filter(part => part === '..').length
      if (ups > depth) report('dependency', 0, `leaves its package by a relative path: ${specifier}`)
    }
    const target = /^@stellwerk\/([^/]+)/.exec(specifier)?.[1]
    if (target !== undefined && target !== owner && !allowed.includes(target)) {
      report('dependency', 0, `${owner} must not import ${target}: ${specifier}`)
    }
    if (/^(?:\.|@stellwerk\/)/.test(specifier) && !/(?:\.(?:ts|json|wasm)|\/schema\/typebox\.js)$/.test(specifier)) {
      report('dependency', 0, `does not name the file it imports: ${specifier}`)
    }
    if (/^typebox(?:\/|$)/.test(specifier)) {
      report('dependency', 0, `loads hundreds of files: ${specifier}; import @stellwerk/protocol/schema/typebox.js`)
    }
    const isNode =
      /^@stellwerk\/runtime\/node\//.test(specifier) || /(?:^|\/)runtime\/src\/node\//.test(resolved(path, specifier))
    if (isNode && !mayUseNode(path)) report('world', 0, `reaches for the real environment: ${specifier}`)
  }
}

/** The command line, which makes the environment; tests; and what runs in a thread of its own, where none is passed in. */
function mayUseNode(path: string): boolean {
  return (
    path.startsWith('packages/runtime/src/node/') ||
    path.startsWith('packages/cli/') ||
    path.endsWith('.test.ts') ||
    TEST_SUPPORT.test(path) ||
    isWorker(path)
  )
}

function isWorker(path: string): boolean {
  return /-worker\.ts$/.test(path)
}

function resolved(path: string, specifier: string): string {
  if (!specifier.startsWith('.')) return ''
  const parts = path.split('/').slice(0, -1)
  for (const part of specifier.split('/')) {
    if (part === '..') parts.pop()
    else if (part !== '.') parts.push(part)
  }
  return parts.join('/')
}

function checkWorld(path: string, code: string, imports: readonly Import[], report: Report): void {
  const isTerminal = path.startsWith('packages/cli/')
  for (const { what, pattern } of isTerminal ? WORLD : [...WORLD, PROCESS]) {
    for (const match of code.matchAll(pattern)) {
      report('world', lineOf(code, match.index), `touches ${what} past the environment: ${match[0].trim()}`)
    }
  }
  for (const { specifier, names, isTypeOnly } of imports) {
    const refuse = (why: string) => report('world', 0, `imports ${specifier}: ${why}`)
    if (isTypeOnly) continue
    if (WORLDLY_PACKAGES.has(specifier.split('/')[0]!)) refuse('it opens sockets or files by itself')
    if (specifier === 'nanoid' && names.some(name => name !== 'urlAlphabet' && name !== 'customRandom')) {
      refuse('ids come from the environment’s Random')
    }
    if (!isBuiltin(specifier)) continue
    if (!specifier.startsWith('node:')) refuse('say node:')
    else if (specifier === 'node:worker_threads') {
      const isInside = isWorker(path) && names.every(name => name === 'parentPort' || name === 'workerData')
      if (!isInside) refuse('threads are started by Compute; a *-worker.ts file may take parentPort and workerData')
    } else if (!HARMLESS_MODULES.has(specifier) && !(isTerminal && TERMINAL_MODULES.has(specifier))) {
      refuse('the environment does that')
    }
    if (specifier === 'node:zlib') checkZlib(code, names, refuse)
    if (
      specifier === 'node:crypto' &&
      /\b(?:random\w+|getRandomValues|webcrypto|generateKey\w*)\b/.test(`${names.join(' ')} ${code}`)
    ) {
      refuse('randomness comes from the environment')
    }
  }
}

const ASYNC_ZLIB =
  /\b(?:zstd(?:Compress|Decompress)|brotli(?:Compress|Decompress)|deflate|inflate|deflateRaw|inflateRaw|gzip|gunzip|unzip|create[A-Z]\w+)\b/

function checkZlib(code: string, names: readonly string[], refuse: (why: string) => void): void {
  const members =
    names.includes('*') || names.includes('default')
      ? [...code.matchAll(/\bzlib\s*\.\s*(\w+)/g)].map(match => match[1]!)
      : []
  const bad = [...names, ...members].find(name => ASYNC_ZLIB.test(name))
  if (bad !== undefined) refuse(`${bad} runs on real threads, use Compute`)
}

const BUILTINS = new Set(
  'fs net http https http2 dgram child_process worker_threads sqlite timers perf_hooks dns tls os zlib crypto path url util events stream'.split(
    ' ',
  ),
)

function isBuiltin(specifier: string): boolean {
  return specifier.startsWith('node:') || BUILTINS.has(specifier.split('/')[0]!)
}

function lineOf(text: string, index: number): number {
  return text.slice(0, index).split('\n').length
}
