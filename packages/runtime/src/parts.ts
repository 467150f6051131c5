// Bytes in parts, which are sent and written as they are instead of being joined.

export function totalLength(parts: readonly Uint8Array[]): number {
  let total = 0
  for (const part of parts) total += part.byteLength
  return total
}
