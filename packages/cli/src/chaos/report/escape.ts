// Text in XML, and so in SVG, HTML and JUnit files: what would be markup is not, and what no XML may contain is left out.

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
