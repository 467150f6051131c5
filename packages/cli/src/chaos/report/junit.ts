// A run as JUnit XML, for CI: a test case for each rule that was judged, each objective, and for what was found otherwise.

import { objectiveLine } from '../judge/objectives.ts'
import type { RunResult } from '../run.ts'
import { escapeXml } from './escape.ts'
import type { JsonResult } from './json.ts'

interface Case {
  readonly name: string
  /** Null: it passed. */
  readonly failure: string | null
}

interface Suite {
  readonly lines: readonly string[]
  readonly tests: number
  readonly failures: number
}

export function junit(results: readonly RunResult[]): string {
  return documentOf(results.map(suite))
}

/** Of a run that ended before there was anything to judge. */
export function unjudgedJunit({ plan, on, seed, findings }: JsonResult): string {
  const only = { name: 'the run comes to a judgement', failure: findings.join('\n') }
  return documentOf([suiteOf(plan, on, seed, 0, [only])])
}

function documentOf(suites: readonly Suite[]): string {
  const failures = suites.reduce((sum, each) => sum + each.failures, 0)
  const tests = suites.reduce((sum, each) => sum + each.tests, 0)
  return [
    '<?xml version="1.0" encoding="UTF-8"?>',
    `<testsuites name="stellwerk chaos" tests="${tests}" failures="${failures}">`,
    ...suites.flatMap(({ lines }) => lines),
    '</testsuites>',
    '',
  ].join('\n')
}

function suite(result: RunResult): Suite {
  return suiteOf(result.plan.name, result.kind, result.seed, result.history.last, casesOf(result))
}

function suiteOf(plan: string, on: string, seed: string, lastedMs: number, cases: readonly Case[]): Suite {
  const failures = cases.filter(({ failure }) => failure !== null).length
  const name = `${plan} on ${on}${seed === '' ? '' : `, seed ${seed}`}`
  const seconds = (lastedMs / 1_000).toFixed(3)
  const lines = [
    `  <testsuite name="${escapeXml(name)}" tests="${cases.length}" failures="${failures}" time="${seconds}">`,
    ...cases.flatMap(each => caseLines(`chaos.${plan}`, each)),
    '  </testsuite>',
  ]
  return { lines, tests: cases.length, failures }
}

function caseLines(className: string, { name, failure }: Case): string[] {
  const head = `    <testcase classname="${escapeXml(className)}" name="${escapeXml(name)}"`
  if (failure === null) return [`${head}/>`]
  const [first = ''] = failure.split('\n')
  const body = `      <failure message="${escapeXml(first)}">${escapeXml(failure)}</failure>`
  return [`${head}>`, body, '    </testcase>']
}

function casesOf({ violations, objectives, findings, lack, judged }: RunResult): Case[] {
  const rules = Object.keys(judged).map(rule => {
    const broken = violations.filter(each => each.rule === rule).map(({ message }) => message)
    return { name: `rule ${rule}`, failure: broken.length === 0 ? null : broken.join('\n') }
  })
  return [
    ...rules,
    ...objectives.map(each => ({ name: `objective ${each.name}`, failure: each.ok ? null : objectiveLine(each) })),
    { name: 'what is left is sound', failure: findings.length === 0 ? null : findings.join('\n') },
    { name: 'the run proves something', failure: lack },
  ]
}
