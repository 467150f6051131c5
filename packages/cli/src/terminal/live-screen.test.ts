import { describe, expect, it } from 'vitest'
import { line, span } from '../render/styled.ts'
import { LiveScreen, type Screen } from './live-screen.ts'
import { VtScreen } from './testing/vt-screen.ts'

/** A screen on a terminal in memory. */
function bench(colours = false) {
  const vt = new VtScreen(20, 5)
  const written: string[] = []
  const hearers = {
    resize: new Set<() => void>(),
    keys: new Set<(sent: string) => void>(),
    exit: new Set<() => void>(),
  }
  const on = <F>(set: Set<F>, f: F) => {
    set.add(f)
    return () => set.delete(f)
  }
  const screen: Screen = {
    get columns() {
      return vt.columns
    },
    get rows() {
      return vt.rows
    },
    colours,
    write: text => {
      written.push(text)
      vt.write(text)
    },
    show: async bytes => vt.write(Buffer.from(bytes).toString()),
    hasKeyboard: true,
    onTyped: () => () => undefined,
    onResize: f => on(hearers.resize, f),
    onKeys: f => on(hearers.keys, f),
    onExit: f => on(hearers.exit, f),
    suspend: async () => undefined,
  }
  return { vt, written, hearers, live: new LiveScreen(screen) }
}

const lines = (...texts: string[]) => texts.map(text => line(text))

describe('a picture that is drawn in place', () => {
  it('is on the alternate screen, without a cursor; afterwards all is as before', () => {
    const { vt, live, hearers } = bench()
    live.open(
      () => undefined,
      () => undefined,
    )
    live.draw(lines('one', 'two'))
    expect([vt.isAlternate, vt.isCursorShown, vt.wraps, vt.text]).toEqual([true, false, false, 'one\ntwo'])
    live.close()
    expect([vt.isAlternate, vt.isCursorShown, vt.wraps]).toEqual([false, true, true])
    for (const set of Object.values(hearers)) expect(set.size).toBe(0)
  })

  it('writes only the rows that differ, all at once', () => {
    const { vt, live, written } = bench()
    live.open(() => undefined)
    live.draw(lines('one', 'two', 'three'))
    vt.touched.clear()
    written.length = 0
    live.draw(lines('one', '2', 'three'))
    expect([[...vt.touched], written.length, vt.text]).toEqual([[1], 1, 'one\n2\nthree'])
    live.draw(lines('one', '2', 'three'))
    expect(written.length).toBe(1)
    live.draw(lines('one'))
    expect(vt.text).toBe('one')
  })

  it('never has more rows than the terminal', () => {
    const { vt, live } = bench()
    live.open(() => undefined)
    live.draw(lines('1', '2', '3', '4', '5', '6'))
    expect(vt.text).toBe('1\n2\n3\n4\n5')
  })

  it('is drawn as a whole after a resize, and when it was written over', () => {
    const { vt, live, hearers } = bench()
    let resized = 0
    live.open(() => {
      resized += 1
    })
    live.draw(lines('one', 'two'))
    vt.resize(30, 3)
    for (const f of hearers.resize) f()
    expect(resized).toBe(1)
    live.draw(lines('one', 'two'))
    expect(vt.text).toBe('one\ntwo')
    vt.write('\u001b[1;1Hsomebody else')
    live.forget()
    live.draw(lines('one', 'two'))
    expect(vt.text).toBe('one\ntwo')
  })

  it('leaves the terminal as it was when the process ends, and nothing is drawn any more', () => {
    const { vt, live, hearers, written } = bench()
    live.open(() => undefined)
    live.draw(lines('one'))
    for (const f of [...hearers.exit]) f()
    expect([vt.isAlternate, vt.isCursorShown]).toEqual([false, true])
    const { length } = written
    live.draw(lines('two'))
    live.close()
    expect(written.length).toBe(length)
  })

  it('has colours only where they are wanted', () => {
    const picture = [line(span('bad', 'bad'), ' plain')]
    const coloured = bench(true)
    coloured.live.open(() => undefined)
    coloured.live.draw(picture)
    expect(coloured.written.join('')).toContain('\u001b[1;31mbad\u001b[0m plain')
    const plain = bench()
    plain.live.open(() => undefined)
    plain.live.draw(picture)
    // biome-ignore lint/suspicious/noControlCharactersInRegex: colours are what is looked for
    expect(plain.written.join('')).not.toMatch(/\u001b\[[0-9;]*m/)
  })
})
