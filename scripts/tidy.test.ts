// The tidy test: all sources keep the rules of tidy.ts, and tidy.ts finds what breaks them.

import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'
import { codeOnly, importsOf } from './source-text.ts'
import { checkFile } from './tidy.ts'

const root = fileURLToPath(new URL('..', import.meta.url))

/** Sources as git knows them, new ones included. Guests in AssemblyScript are another language. */
function sources(): string[] {
  const args = [
    'ls-files',
    '--cached',
    '--others',
    '--exclude-standard',
    '--deduplicate',
    // As a glob: as a plain pathspec it leaves out what lies in src itself.
    ':(glob)packages/*/src/**/*.ts',
    'scripts/*.ts',
  ]
  const files = execFileSync('git', args, { cwd: root, encoding: 'utf8' }).split('\n')
  return files.filter(file => /(?<!\.d)\.ts$/.test(file) && !file.includes('/assembly/'))
}

function textOf(file: string): string | null {
  try {
    return readFileSync(root + file, 'utf8')
  } catch (error) {
    // Deleted, but git still lists it.
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null
    throw error
  }
}

test('every source keeps the rules', () => {
  const files = sources()
  // An empty list would keep every rule.
  expect(files.length).toBeGreaterThan(50)
  const broken = files
    .filter(file => file.startsWith('packages/'))
    .flatMap(file =>
      checkFile(file, textOf(file) ?? '// gone\n').map(v => `${file}:${v.line} [${v.rule}] ${v.message}`),
    )
  expect(broken).toEqual([])
})

const HEADER = '// What it is.\n'
const rulesOf = (path: string, code: string) => [...new Set(checkFile(path, HEADER + code).map(({ rule }) => rule))]

describe('the checker finds', () => {
  const PURE = 'packages/coordinator/src/core/failover.ts'

  const worldly = [
    'const t = Date.now()',
    'const t = new Date()',
    'const t = performance.now()',
    'const t = process.hrtime.bigint()',
    'const x = Math.random()',
    'const x = Math . random()',
    'const x = crypto.randomUUID()',
    'setTimeout(f, 1)',
    'const timer = setInterval(f, 1)',
    'setImmediate(f)',
    'const s = AbortSignal.timeout(5)',
    'process.nextTick(f)',
    "const r = await fetch('http://x')",
    "const w = new WebSocket('ws://x')",
    'const r = new WeakRef(x)',
    'globalThis.x = 1',
    'process.stdout.write(x)',
    'const e = process.env',
    // biome-ignore lint/suspicious/noTemplateCurlyInString: the snippet is a template
    'const s = `it is ${Date.now()} now`',
    // biome-ignore lint/suspicious/noTemplateCurlyInString: the snippet is a template
    'const s = `a ${`b ${{ t: Date.now() }.t}`}`',
    'const ratio = a / b; const t = Date.now() / 2',
    "import { readFileSync } from 'node:fs'",
    "import fs from 'node:fs/promises'",
    "import fs from 'fs'",
    "import { connect } from 'node:net'",
    "import { get } from 'node:http'",
    "import dgram from 'node:dgram'",
    "import { spawn } from 'node:child_process'",
    "import { Worker } from 'node:worker_threads'",
    "import { DatabaseSync } from 'node:sqlite'",
    "import { setTimeout as sleep } from 'node:timers/promises'",
    "import { uptime } from 'node:os'",
    "const fs = await import('node:fs')",
    "import { randomBytes } from 'node:crypto'",
    "import crypto from 'node:crypto'\nconst x = crypto.randomInt(5)",
    "import { zstdCompress } from 'node:zlib'",
    "import * as zlib from 'node:zlib'\nzlib.deflate(x, f)",
    "import { nanoid } from 'nanoid'",
    "import { WebSocket } from 'ws'",
    "import pino from 'pino'",
    "import { createNetwork } from '@stellwerk/runtime/node/network.ts'",
  ]
  for (const code of worldly) {
    test(`the world in: ${code}`, () => expect(rulesOf(PURE, code)).toEqual(['world']))
  }

  test('the world in the simulator, by a relative path too', () => {
    expect(rulesOf('packages/runtime/src/sim/x.ts', "import { x } from '../node/network.ts'")).toEqual(['world'])
  })

  test('dependencies that run the wrong way', () => {
    const wrong = [
      ['runtime', 'protocol'],
      ['protocol', 'block'],
      ['block', 'csv'],
      ['csv', 'storage'],
      ['storage', 'agent'],
      ['agent', 'coordinator'],
      ['coordinator', 'agent'],
      ['coordinator', 'block'],
      ['agent', 'cli'],
    ]
    for (const [from, to] of wrong) {
      expect(rulesOf(`packages/${from}/src/x.ts`, `import type { X } from '@stellwerk/${to}/y.ts'`), from).toEqual([
        'dependency',
      ])
    }
    expect(rulesOf('packages/agent/src/vm/x.ts', "import { X } from '../../../coordinator/src/y.ts'")).toEqual([
      'dependency',
    ])
    expect(rulesOf('packages/agent/src/x.ts', "import { X } from './y'")).toEqual(['dependency'])
    expect(rulesOf('packages/agent/src/x.ts', "import { X } from './y.js'")).toEqual(['dependency'])
    expect(rulesOf('packages/agent/src/x.ts', "import { Type } from 'typebox'")).toEqual(['dependency'])
    expect(rulesOf('packages/agent/src/x.test.ts', "import { X } from '@stellwerk/coordinator/y.ts'")).toEqual([
      'dependency',
    ])
    expect(rulesOf('packages/unheard-of/src/x.ts', 'export const x = 1')).toEqual(['dependency'])
  })

  test('files that are too long, nameless or badly named', () => {
    expect(rulesOf(PURE, 'const x = 1\n'.repeat(500))).toEqual(['length'])
    expect(rulesOf(PURE, 'const x = 1\n'.repeat(499))).toEqual([])
    expect(checkFile(PURE, 'export const x = 1\n').map(({ rule }) => rule)).toEqual(['header'])
    for (const name of ['FailOver.ts', 'fail_over.ts', 'failOver.test.ts', 'fail.over.ts']) {
      expect(rulesOf(`packages/agent/src/${name}`, 'export const x = 1'), name).toEqual(['name'])
    }
  })

  test('what is unfinished', () => {
    for (const word of ['TO' + 'DO', 'FIX' + 'ME', 'X' + 'XX']) {
      expect(rulesOf(PURE, `// ${word}: later\n`)).toEqual(['unfinished'])
      expect(rulesOf('packages/agent/src/x.test.ts', `// ${word}\n`)).toEqual(['unfinished'])
    }
  })

  test('errors that are swallowed', () => {
    const swallowing = [
      'try { f() } catch {}',
      'try { f() } catch (error) {\n}',
      'try { f() } catch (error) {\n  // never mind\n}',
      'f()\n\n\np.catch(() => {})',
      'f()\n\n\np.catch(() => undefined)',
      'f()\n\n\np.catch(error => null)',
    ]
    expect(rulesOf(PURE, '// Who asked for it hears of it.\np.catch(() => undefined)')).toEqual([])
    expect(rulesOf('packages/agent/src/x.test.ts', 'try { f() } catch {}')).toEqual(['swallowed'])
    for (const code of swallowing) expect(rulesOf(PURE, code), code).toEqual(['swallowed'])
  })

  test('what only tests may import', () => {
    expect(rulesOf(PURE, "import { x } from '@stellwerk/runtime/contract/world.ts'")).toEqual(['support'])
    expect(rulesOf(PURE, "import { x } from '../testing/fake.ts'")).toEqual(['support'])
  })

  test('barrels', () => {
    expect(rulesOf('packages/agent/src/index.ts', 'export const x = 1')).toEqual(['barrel'])
    expect(rulesOf(PURE, "export * from './x.ts'")).toEqual(['barrel'])
    expect(rulesOf(PURE, "export { x } from './x.ts'\nexport type { Y } from './y.ts'\n")).toEqual(['barrel'])
  })

  test('the line', () => {
    expect(checkFile(PURE, `${HEADER}/* a\n b */\nconst x = Date.now()\n`)[0]?.line).toBe(4)
  })
})

describe('the checker leaves alone', () => {
  const fine: readonly (readonly [string, string])[] = [
    [
      'packages/agent/src/x.ts',
      "// Date.now() and setTimeout are the environment's\nconst s = 'Date.now()'\nconst r = /Math.random/",
    ],
    ['packages/agent/src/x.ts', 'const t = env.clock.now()\nenv.timers.after(5, f)\nsocket.setTimeout(5)'],
    [
      'packages/agent/src/x.ts',
      'interface Cache { fetch(key: string): Promise<string>; performance: number; Date?: string }',
    ],
    ['packages/agent/src/x.ts', 'function f(process: SimProcess) { process.kill(); return process.pid }'],
    [
      'packages/agent/src/x.ts',
      "import { crc32, zstdCompressSync } from 'node:zlib'\nimport { createHash } from 'node:crypto'",
    ],
    ['packages/agent/src/x.ts', "import { customRandom, urlAlphabet } from 'nanoid'"],
    ['packages/agent/src/x.ts', "import type { Server } from 'node:net'"],
    ['packages/agent/src/x.ts', "import { Type } from '@stellwerk/protocol/schema/typebox.js'"],
    ['packages/agent/src/x.ts', "import { X } from '@stellwerk/storage/y.ts'\nimport { Z } from './z.ts'"],
    ['packages/agent/src/x.ts', "try { f() } catch (error) { log.warn({ error }, 'failed') }"],
    ['packages/agent/src/x.ts', "export { x } from './x.ts'\nexport const y = 1"],
    [
      'packages/agent/src/hypervisor/wasm/step-worker.ts',
      "import { parentPort, workerData } from 'node:worker_threads'",
    ],
    ['packages/agent/src/testing/fake.ts', "import { readFileSync } from 'node:fs'"],
    ['packages/agent/src/x.property.test.ts', "import { build } from '../tools/build.ts'"],
    ['packages/agent/src/x.test.ts', "import { readFileSync } from 'node:fs'\nconst t = Date.now()"],
    ['packages/runtime/src/node/x.ts', "import { readFileSync } from 'node:fs'\nconst t = Date.now()"],
    [
      'packages/cli/src/x.ts',
      "process.stdout.write('x')\nprocess.on('SIGINT', f)\nimport { createEnvironment } from '@stellwerk/runtime/node/environment.ts'",
    ],
  ]
  for (const [path, code] of fine) {
    test(`${path}: ${code.slice(0, 60)}`, () => expect(checkFile(path, HEADER + code)).toEqual([]))
  }
})

describe('the scanner', () => {
  test('blanks comments, strings and regular expressions, and keeps every line in place', () => {
    // biome-ignore lint/suspicious/noTemplateCurlyInString: the snippet is a template
    const text = 'a // Date\nb /* Date\n Date */ c\n\'Date\' + "Da\\"te" + `Date ${d} Date` + /Da[/]te/ + e / f / g'
    const code = codeOnly(text)
    expect(code).not.toContain('Da')
    expect(code.length).toBe(text.length)
    expect(code.replace(/\s+/g, ' ')).toBe('a b c + + d + + e / f / g')
    expect(code.split('\n').length).toBe(text.split('\n').length)
  })

  test('finds imports of every form, not those in comments and strings', () => {
    const text = [
      "import a from 'one'",
      "import { b, type C as D } from 'two'",
      "import type { E } from 'three'",
      "import * as f from 'four'",
      "import 'five'",
      "export { g } from 'six'",
      "import {\n  h,\n} from 'seven'",
      "const i = await import('eight')",
      "// import j from 'nine'",
      "const s = `import k from 'ten'`",
    ].join('\n')
    expect(importsOf(text).map(({ specifier, names }) => [specifier, names])).toEqual([
      ['one', ['default']],
      ['two', ['b', 'C']],
      ['three', ['E']],
      ['four', ['*']],
      ['five', []],
      ['six', ['g']],
      ['seven', ['h']],
      ['eight', ['*']],
    ])
  })
})
