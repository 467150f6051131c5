// A source file as the tidy test reads it: its code without comments and without what stands in strings, and its imports.
// A scanner, not a parser: it knows just enough of TypeScript not to be fooled by quotes in comments and the like.

export interface Import {
  readonly specifier: string
  /** What is named between the braces, `*` for a namespace, `default` for a default import; empty for a bare import. */
  readonly names: readonly string[]
  readonly isTypeOnly: boolean
  readonly isReExport: boolean
}

/** After one of these a slash begins a regular expression, not a division. */
const BEFORE_REGEX =
  /(?:^|[=(,:;!&|?{}[+\-*%~^<>]|=>|\b(?:return|typeof|case|in|of|void|delete|throw|new|else|do|await|yield))\s*$/

/** The text with comments and the contents of strings and regular expressions blanked; lines stay where they are. */
export function codeOnly(text: string): string {
  let out = ''
  let at = 0
  /** For each open template its depth of braces: code stands in between. */
  const templates: number[] = []
  const blank = (until: number) => {
    out += text.slice(at, until).replace(/[^\n]/g, ' ')
    at = until
  }
  const find = (needle: string, from: number) => {
    const found = text.indexOf(needle, from)
    return found === -1 ? text.length : found
  }
  /** The end of what a quote, slash or backtick at `at` opens. */
  const endOf = (closers: RegExp): number => {
    let inClass = false
    for (let i = at + 1; i < text.length; i++) {
      const c = text[i]!
      if (c === '\\') i++
      else if (c === '[') inClass = true
      else if (c === ']') inClass = false
      else if (closers.test(c) && !(c === '/' && inClass)) return i
      else if (c === '\n' && closers.source !== '`') return i
    }
    return text.length
  }
  const templatePart = () => {
    let i = at + 1
    for (; i < text.length && text[i] !== '`'; i++) {
      if (text[i] === '\\') i++
      else if (text[i] === '$' && text[i + 1] === '{') {
        templates.push(0)
        blank(i + 2)
        return
      }
    }
    blank(Math.min(i + 1, text.length))
  }
  while (at < text.length) {
    const c = text[at]!
    const two = text.slice(at, at + 2)
    if (two === '//') blank(find('\n', at))
    else if (two === '/*') blank(Math.min(find('*/', at + 2) + 2, text.length))
    else if (c === "'" || c === '"') blank(Math.min(endOf(c === "'" ? /'/ : /"/) + 1, text.length))
    else if (c === '`') templatePart()
    else if (c === '/' && BEFORE_REGEX.test(out.slice(-200))) blank(Math.min(endOf(/\//) + 1, text.length))
    else if (c === '}' && templates.at(-1) === 0) {
      templates.pop()
      templatePart()
    } else {
      const depth = templates.length - 1
      if (depth >= 0 && c === '{') templates[depth]! += 1
      if (depth >= 0 && c === '}') templates[depth]! -= 1
      out += c
      at++
    }
  }
  return out
}

const IMPORT =
  /^[ \t]*(import|export)\s+(type\s+)?(?:([\w$*{},\s]+?)\s+from\s+)?(['"])([^'"\n]+)\4|\bimport\(\s*(['"])([^'"\n]+)\6/gm

/** Static and dynamic imports and re-exports. `text` is the whole source: specifiers are strings. */
export function importsOf(text: string): readonly Import[] {
  const code = codeOnly(text)
  const found: Import[] = []
  for (const match of text.matchAll(IMPORT)) {
    // One that stands in a comment or a string is blank in the code.
    if (code.slice(match.index, match.index + match[0].length).trim() === '') continue
    const [, keyword, isType, clause = '', , specifier, , dynamic] = match
    found.push({
      specifier: specifier ?? dynamic ?? '',
      names: dynamic === undefined ? namesIn(clause) : ['*'],
      isTypeOnly: isType !== undefined,
      isReExport: keyword === 'export',
    })
  }
  return found
}

function namesIn(clause: string): string[] {
  const names: string[] = []
  if (clause.includes('*')) names.push('*')
  const braces = /\{([^}]*)\}/.exec(clause)
  for (const part of (braces?.[1] ?? '').split(',')) {
    const name = part.trim().replace(/^type\s+/, '')
    if (name !== '') names.push(name.split(/\s+as\s+/)[0]!)
  }
  const before = clause.replace(/\{[^}]*\}/, '').replace(/\*\s+as\s+\w+/, '')
  if (/\w/.test(before)) names.push('default')
  return names
}
