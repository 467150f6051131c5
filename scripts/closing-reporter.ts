// The last lines of a test run: what was skipped and which package would enable it, then the counts in one plain line.

import type { Reporter, TestModule } from 'vitest/node'

export default class ClosingReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[]): void {
    const counts = { passed: 0, failed: 0, skipped: 0 }
    const skipped = new Set<string>()
    for (const module of modules) {
      // A file that could not even be loaded has failed, though none of its tests has run.
      if (module.errors().length > 0) counts.failed += 1
      for (const test of module.children.allTests()) {
        const { state } = test.result()
        if (state === 'passed') counts.passed += 1
        else if (state === 'failed') counts.failed += 1
        else {
          counts.skipped += 1
          skipped.add(test.fullName)
        }
      }
    }
    if (skipped.size > 0) console.log(`\nSkipped:\n${[...skipped].map(name => `  ${name}`).join('\n')}`)
    console.log(`\n${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`)
  }
}
