/** FNV-1a, 32 bits, over a text's characters: http://www.isthe.com/chongo/tech/comp/fnv/. For names and checksums, not against foes. */
export function fnv1a(text: string): number {
  let hash = 0x811c9dc5
  for (let i = 0; i < text.length; i += 1) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193) >>> 0
  return hash
}
