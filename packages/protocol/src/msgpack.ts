// The msgpack of wire and trace: plain data only. Taken from msgpackr's JavaScript part: its native string reader is no
// faster on messages of our size, and what strangers send is better read by code that can't corrupt memory.
import { addExtension, Packr } from 'msgpackr/pack'

/** Dates, sets, errors, patterns, references, bundled strings, big integers in text have no place in a message. */
const FOREIGN_EXTENSIONS = [0x42, 0x62, 0x65, 0x69, 0x70, 0x73, 0x74, 0x78, 0xff]
for (const type of FOREIGN_EXTENSIONS) {
  addExtension({
    type,
    unpack: () => {
      throw new Error(`extension ${type} is not plain data`)
    },
  })
}

/** Integers past 2^53 travel as bigint (int64) and come back as such; numbers come back as numbers. */
export const packr = new Packr({
  useRecords: false,
  structuredClone: false,
  moreTypes: false,
  int64AsType: 'bigint',
  mapsAsObjects: true,
})
