// Text that comes in chunks over a stream, as lines: a console, a monitor.

const NEWLINE = 0x0a

/** The whole lines in `bytes`, without their ends, and what is behind the last of them. */
export function splitLines(bytes: Buffer): { readonly lines: string[]; readonly rest: Buffer } {
  const lines: string[] = []
  let rest = bytes
  for (let end = rest.indexOf(NEWLINE); end >= 0; end = rest.indexOf(NEWLINE)) {
    lines.push(rest.toString('utf8', 0, end))
    rest = rest.subarray(end + 1)
  }
  return { lines, rest }
}
