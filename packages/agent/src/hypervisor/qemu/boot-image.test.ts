// Boot images: what is no image, or a damaged one, is named in one line.

import { expect, test } from 'vitest'
import { decodeBootImage, encodeBootImage, isBootImage } from './boot-image.ts'

const image = { kernel: Buffer.from('kernel'), initrd: Buffer.from('initrd!'), commandLine: 'quiet' }
const good = encodeBootImage(image)

test('comes back as it went in', () => {
  expect(isBootImage(good)).toBe(true)
  expect(decodeBootImage('x', good)).toEqual(image)
  // Also as a view of something larger.
  expect(decodeBootImage('x', Buffer.concat([Buffer.from('pad'), good]).subarray(3))).toEqual(image)
})

function changed(text: string, by: string): Buffer {
  return Buffer.from(good.toString('latin1').replace(text, by), 'latin1')
}

test.each([
  ['another beginning', Buffer.from('\u007fELF'), /begins with something else/],
  ['only a magic', good.subarray(0, 9), /ends in its header/],
  ['a cut header', good.subarray(0, 30), /ends in its header/],
  ['a cut initial RAM disk', good.subarray(0, -1), /longer or shorter/],
  ['something behind it', Buffer.concat([good, Buffer.from('x')]), /longer or shorter/],
  ['a header that is no JSON', changed('{', '['), /not JSON/],
  ['no kernel', changed('"kernelBytes":6', '"kernelBytes":0'), /has no kernel/],
  ['no initial RAM disk', changed('"initrdBytes":7', '"initrdBytes":0'), /no initial RAM disk/],
  ['a line end in its command line', changed('quiet', 'qui\\n'), /command line/],
])('%s is refused', (_, bytes, said) => {
  expect(() => decodeBootImage('x.boot', bytes)).toThrow(said)
  expect(() => decodeBootImage('x.boot', bytes)).toThrow(expect.objectContaining({ code: 'bad-guest' }))
})
