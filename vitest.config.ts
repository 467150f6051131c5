// How tests are found and run: unit tests stand beside the code, cluster-wide ones in test/.
import { configDefaults, defineConfig } from 'vitest/config'
import { LongestFirst } from './scripts/longest-first.ts'

/** `npm run test:long`: those that take long, too. */
const LONG = process.env['STELLWERK_LONG'] === '1'

export default defineConfig({
  test: {
    include: ['scripts/**/*.test.ts', 'packages/*/src/**/*.test.ts', 'bench/**/*.test.ts', 'test/**/*.test.ts'],
    exclude: [...configDefaults.exclude, ...(LONG ? [] : ['**/*.long.test.ts'])],
    pool: 'forks',
    // One more than the two cores they are made for: what runs real processes waits for much of its time.
    maxWorkers: 3,
    sequence: { sequencer: LongestFirst },
    testTimeout: 120_000,
    hookTimeout: 120_000,
    reporters: ['dot', './scripts/closing-reporter.ts'],
  },
})
