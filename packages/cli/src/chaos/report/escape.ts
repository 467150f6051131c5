// Text in XML, and so in SVG, HTML and JUnit files, and in Markdown: what would be markup is not, and what no XML may contain is
// left out.

/** Control characters, halves of pairs, and the two that are no characters at all. */
const FORBIDDEN =
  // biome-ignore lint/suspicious/noControlCharactersInRegex: those are what is left out
  /[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g

export function escapeXml(text: string): string {
  return text
    .replace(FORBIDDEN, '')
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;')
    .replaceAll("'", '&#39;')
}

/** For one line: of a paragraph, a heading, an item or a cell (where `|` is markup as well). */
export function escapeMarkdown(text: string): string {
  return (
    text
      .replace(FORBIDDEN, '')
      .replace(/\s*\n\s*/g, ' ')
      .replace(/[\\`*[\]<>&~]/g, '\\$&')
      // Within a word it is none.
      .replace(/(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])/g, '\\_')
      .replace(/^(\s*)([#+=-])/, '$1\\$2')
      .replace(/^(\s*\d+)([.)])/, '$1\\$2')
  )
}
