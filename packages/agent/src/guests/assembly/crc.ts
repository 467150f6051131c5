// CRC-32 with eight tables, so that a long log is checked at the speed it is read.

/** 8 tables × 256 × 4 bytes. */
export const CRC_TABLE_BYTES: usize = 8192

export function buildCrcTables(tables: usize): void {
  for (let n: u32 = 0; n < 256; n++) {
    let crc: u32 = n
    for (let bit: i32 = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1
    store<u32>(tables + <usize>n * 4, crc)
  }
  for (let n: usize = 0; n < 256; n++) {
    let crc: u32 = load<u32>(tables + n * 4)
    for (let table: usize = 1; table < 8; table++) {
      crc = (crc >>> 8) ^ load<u32>(tables + <usize>(crc & 255) * 4)
      store<u32>(tables + table * 1024 + n * 4, crc)
    }
  }
}

function look(tables: usize, table: usize, byte: u32): u32 {
  return load<u32>(tables + table * 1024 + <usize>(byte & 255) * 4)
}

export function crc32(tables: usize, from: usize, length: usize): u32 {
  let crc: u32 = 0xffffffff
  let at = from
  const end = from + length
  while (at + 8 <= end) {
    const a: u32 = crc ^ load<u32>(at)
    const b: u32 = load<u32>(at + 4)
    crc =
      look(tables, 7, a) ^
      look(tables, 6, a >>> 8) ^
      look(tables, 5, a >>> 16) ^
      look(tables, 4, a >>> 24) ^
      look(tables, 3, b) ^
      look(tables, 2, b >>> 8) ^
      look(tables, 1, b >>> 16) ^
      look(tables, 0, b >>> 24)
    at += 8
  }
  while (at < end) {
    crc = (crc >>> 8) ^ look(tables, 0, crc ^ load<u8>(at))
    at++
  }
  return ~crc
}
