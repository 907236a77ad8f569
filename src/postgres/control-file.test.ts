import assert from 'node:assert/strict'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { isFailure } from '../base/failure.ts'
import {
  parseControlFile,
  readControlFile,
  readStable,
  requireSupportedSizes,
} from './control-file.ts'
import { crc32c } from './crc32c.ts'

/** A control file of zeros with the sizes of a common build; `change` before the CRC. */
function makeControlFile(version: number, change: (view: DataView) => void = () => {}): Buffer {
  const bytes = Buffer.alloc(8192)
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  view.setBigUint64(0, 7_300_000_000_000_000_001n, true)
  view.setUint32(8, version, true)
  view.setUint32(204, 8, true)
  view.setUint32(216, 8192, true)
  view.setUint32(220, 131072, true)
  view.setUint32(224, 8192, true)
  view.setUint32(228, 16 * 1024 * 1024, true)
  change(view)
  const crcOffset = version === 1800 ? 292 : 288
  view.setUint32(crcOffset, crc32c(bytes.subarray(0, crcOffset)), true)
  return bytes
}

test('the CRC covers every byte before it', () => {
  for (const version of [1300, 1700, 1800]) {
    const bytes = makeControlFile(version)
    assert.equal(parseControlFile(bytes).isCrcCorrect, true)
    for (const at of [0, 24, 140, 255, 287]) {
      bytes[at] = (bytes[at] as number) ^ 1
      assert.equal(parseControlFile(bytes).isCrcCorrect, false, `byte ${at}`)
      bytes[at] = (bytes[at] as number) ^ 1
    }
  }
})

test('an unknown version is refused by number, a big-endian one by its own code', () => {
  assert.throws(
    () => parseControlFile(makeControlFile(1942)),
    (error) => isFailure(error, 'TM1111') && error.message.includes('1942'),
  )
  const swapped = makeControlFile(1300, (view) => view.setUint32(8, 1300, false))
  assert.throws(
    () => parseControlFile(swapped),
    (error) => isFailure(error, 'TM1112'),
  )
  assert.throws(
    () => parseControlFile(new Uint8Array(100)),
    (error) => isFailure(error, 'TM1110'),
  )
})

test('sizes that the format does not serve are refused', () => {
  requireSupportedSizes(parseControlFile(makeControlFile(1300)))
  for (const [offset, value] of [
    [216, 4096],
    [224, 16384],
    [204, 4],
  ] as const) {
    const bytes = makeControlFile(1300, (view) => view.setUint32(offset, value, true))
    assert.throws(
      () => requireSupportedSizes(parseControlFile(bytes)),
      (error) => isFailure(error, 'TM1112') && error.message.includes(`${value}`),
    )
  }
})

test('a torn control file is waited for, and given up when it stays torn', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'tidemark-control-'))
  try {
    await assert.rejects(readControlFile(directory), (error) => isFailure(error, 'TM1110'))
    await mkdir(join(directory, 'global'))
    const path = join(directory, 'global/pg_control')
    const torn = makeControlFile(1300)
    torn[30] = 1
    await writeFile(path, torn)
    await assert.rejects(
      readControlFile(directory, 30),
      (error) => isFailure(error, 'TM1110') && error.message.includes(path),
    )
    const reading = readControlFile(directory)
    await writeFile(path, makeControlFile(1300))
    const { control, bytes } = await reading
    assert.equal(control.systemIdentifier, 7_300_000_000_000_000_001n)
    assert.deepEqual(Buffer.from(bytes), makeControlFile(1300))
  } finally {
    await rm(directory, { recursive: true })
  }
})

test('a control file counts only when two reads in a row agree', async () => {
  const states = [3, 6, 3, 6, 6, 3].map((state) =>
    makeControlFile(1800, (view) => view.setUint32(16, state, true)),
  )
  let reads = 0
  const read = async () => states[reads++] as Buffer
  const { control } = await readStable('pg_control', 1000, read)
  assert.equal(control.state, 'in production')
  assert.equal(reads, 5)
})
