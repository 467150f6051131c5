// A report as one HTML page that needs nothing else: of a run the timeline's picture, and what the Markdown report says.

import type { RunResult } from '../run.ts'
import { escapeXml } from './escape.ts'
import { type Section, sectionsOf, titleOf } from './markdown.ts'
import { timelineSvg } from './timeline.ts'

const STYLE = `
body{font:15px/1.45 system-ui,sans-serif;max-width:75rem;margin:2rem auto;padding:0 1rem;color:#222;background:#fff}
table{border-collapse:collapse;margin:.5rem 0}
th,td{text-align:left;padding:.2rem .8rem .2rem 0;border-bottom:1px solid #ddd;font-variant-numeric:tabular-nums}
h1{font-size:1.4rem}h2{font-size:1.1rem;margin-top:1.6rem}
.pass{color:#117733}.fail{color:#cc3311}
figure{margin:1rem 0;overflow-x:auto}svg{min-width:50rem}
`

export function html(result: RunResult, replay: string): string {
  return page(titleOf(result), result.verdict, sectionsOf(result, replay), timelineSvg(result))
}

/** `picture`: SVG, shown after the first section. */
export function page(
  title: string,
  verdict: 'pass' | 'fail',
  [first, ...others]: readonly Section[],
  picture?: string,
): string {
  const named = escapeXml(title)
  return [
    '<!DOCTYPE html>',
    '<html lang="en">',
    `<head><meta charset="utf-8"/><meta name="viewport" content="width=device-width"/><title>${named}</title><style>${STYLE}</style></head>`,
    '<body>',
    `<h1>${named}: <span class="${verdict}">${verdict}</span></h1>`,
    ...(first === undefined ? [] : section(first)),
    ...(picture === undefined ? [] : ['<figure>', picture, '</figure>']),
    ...others.flatMap(section),
    '</body>',
    '</html>',
    '',
  ].join('\n')
}

function section({ title, lines, head = [], rows = [] }: Section): string[] {
  const cells = (tag: string, values: readonly string[]): string =>
    `<tr>${values.map(value => `<${tag}>${escapeXml(value)}</${tag}>`).join('')}</tr>`
  return [
    `<h2>${escapeXml(title)}</h2>`,
    ...lines.map(line => `<p>${escapeXml(line)}</p>`),
    ...(rows.length === 0 ? [] : ['<table>', cells('th', head), ...rows.map(row => cells('td', row)), '</table>']),
  ]
}
