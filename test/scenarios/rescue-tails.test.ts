/**
 * tools/rescue-reader/tails.py, which shares no code with Tidemark, finds in tails what Tidemark
 * finds, in the clear and out of what unseal.py has opened.
 */
import assert from 'node:assert/strict'
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { findTail } from '../../src/archive/read-tail.ts'
import { encodeTailChunk, encodeTailHead, encodeTailPiece } from '../../src/archive/tail-format.ts'
import { journalKey, pieceKey } from '../../src/archive/tail-keys.ts'
import { formatSegmentName, lsn } from '../../src/postgres/lsn.ts'
import { createRepository } from '../../src/repository/repository.ts'
import type { KeySecret } from '../../src/repository/key-slots.ts'
import { ensureFirstKey, unlockRepository } from '../../src/repository/unlock.ts'
import { openStorage } from '../../src/storage/open-storage.ts'
import { openSealedStorage } from '../../src/storage/sealed-storage.ts'
import type { Storage } from '../../src/storage/storage.ts'
import { rescueReaderMissing, rescueTails, unseal } from '../harness/rescue-reader.ts'
import { removeDirectory, temporaryDirectory } from '../harness/temporary-directory.ts'
import { buildSegment, MB, SYSTEM } from '../harness/wal-builder.ts'

const skip = rescueReaderMissing()
const AT = new Date('2026-11-21T00:00:00Z')
const KEY: KeySecret = { kind: 'key-file', bytes: Buffer.alloc(40, 'k'), where: '' }
const ID = SYSTEM.toString()
const PLACE = { cluster: 'main', systemIdentifier: ID, walSegmentSizeBytes: MB }
const [BEFORE, NAME] = [formatSegmentName(1, 4n, MB), formatSegmentName(1, 5n, MB)]
const [ONE, OTHER] = ['ab'.repeat(8), 'cd'.repeat(8)]
const SENT = buildSegment({ segment: 5n, mark: 7 }).fill(0x5a, 9000, 600_000)

interface Place {
  readonly repository: string
  readonly storage: Storage
  readonly journalFile: string
  /** What rescue.py has made; removed and made again by each. */
  rescued(): string
  tails(into: string, ...args: string[]): ReturnType<typeof rescueTails>
  /** What Tidemark finds. */
  find(): Promise<Buffer | undefined>
}

async function withPlace(isSealed: boolean, use: (place: Place) => Promise<void>): Promise<void> {
  const directory = temporaryDirectory(undefined, 'tidemark-rescue-tails-')
  const repository = join(directory, 'repository')
  const plain = await openStorage({ url: `file://${repository}` })
  await createRepository(plain, AT, isSealed)
  if (isSealed) await ensureFirstKey(plain, { secret: KEY, label: '', createdAt: AT })
  const storage = isSealed ? openSealedStorage(plain, await unlockRepository(plain, KEY)) : plain
  let made = 0
  const rescued = (): string => {
    const into = join(directory, `into-${made++}`)
    for (const name of ['global', 'pg_wal']) mkdirSync(join(into, name), { recursive: true })
    const control = Buffer.alloc(8192)
    control.writeBigUInt64LE(SYSTEM)
    writeFileSync(join(into, 'global/pg_control'), control)
    writeFileSync(join(into, 'pg_wal', BEFORE), buildSegment({ segment: 4n }))
    return into
  }
  const keyFile = join(directory, 'key')
  writeFileSync(keyFile, KEY.bytes)
  let opened = 0
  const tails = async (into: string, ...args: string[]) => {
    if (!isSealed) return await rescueTails(repository, into, ...args)
    const copy = join(directory, `copy-${opened++}`)
    const { status, stderr } = await unseal(repository, copy, '--key-file', keyFile)
    const result = await rescueTails(copy, into, ...args)
    return { ...result, status: result.status || status, stderr: stderr + result.stderr }
  }
  const find = async () => (await findTail([storage], PLACE, NAME))?.bytes
  const journalFile = join(repository, journalKey('main', ID, NAME, ONE))
  try {
    await use({ repository, storage, journalFile, rescued, tails, find })
  } finally {
    await removeDirectory(directory)
  }
}

const headOf = (opening: string) => ({
  systemIdentifier: ID,
  segment: NAME,
  walSegmentSizeBytes: MB,
  opening,
  writer: 'nobody',
  startedAt: AT.toISOString(),
})

async function writeJournal(storage: Storage, cuts: readonly number[]): Promise<void> {
  const key = journalKey('main', ID, NAME, ONE)
  const journal = await storage.openJournal?.(key, encodeTailHead(headOf(ONE)))
  assert.ok(journal !== undefined)
  for (let n = 1; n < cuts.length; n++) {
    const [from, to] = [cuts[n - 1] as number, cuts[n] as number]
    journal.append(encodeTailChunk(lsn(BigInt(5 * MB + from)), [SENT.subarray(from, to)]))
  }
  await journal.close()
}

async function writePiece(storage: Storage, from: number, to: number, bytes = SENT) {
  const piece = encodeTailPiece(headOf(OTHER), from, [bytes.subarray(from, to)])
  await storage.write(pieceKey('main', ID, NAME, OTHER, from, to), piece)
}

/** The padded file holds what Tidemark finds, and no byte more. */
async function assertFound({ find }: Place, into: string): Promise<void> {
  const written = readFileSync(join(into, 'pg_wal', NAME))
  assert.equal(written.length, MB)
  const found = (await find()) ?? assert.fail()
  assert.ok(written.subarray(0, found.length).equals(found))
  assert.ok(written.subarray(found.length).equals(Buffer.alloc(MB - found.length)))
}

for (const isSealed of [false, true]) {
  const how = isSealed ? 'sealed' : 'plain'

  test(`${how}: a journal, pieces, and the furthest of both`, { skip }, async () => {
    await withPlace(isSealed, async (place) => {
      const { storage, rescued, tails } = place
      await writeJournal(storage, [0, 8000, 8001, 20_003])
      const furthest = [
        [0, 10_000],
        [10_000, 30_000],
        [0, 25_000],
        [30_000, 500_000],
      ] as const
      for (const pieces of [[], furthest]) {
        for (const [from, to] of pieces) await writePiece(storage, from, to)
        const into = rescued()
        const { status, stdout, stderr } = await tails(into)
        assert.equal(status, 0, stderr)
        assert.match(stdout, /^0{7}10{15}5 up to 0\/5[0-9A-F]{5}\n$/)
        await assertFound(place, into)
      }
    })
  })

  test(`${how}: torn and damaged journals give what lies before`, { skip }, async () => {
    await withPlace(isSealed, async (place) => {
      const { storage, journalFile, rescued, tails } = place
      await writeJournal(storage, [0, 8000, 16_000, 24_000])
      const whole = readFileSync(journalFile)
      const chunks: number[] = []
      for (let at = whole.indexOf('TMJC'); at >= 0; at = whole.indexOf('TMJC', at + 1)) {
        chunks.push(at)
      }
      for (const [chunk, status] of [
        [3, 0],
        [2, 1],
      ] as const) {
        const bytes = Buffer.from(whole)
        const at = (chunks[chunk] as number) + 500
        bytes[at] = (bytes[at] as number) ^ 1
        writeFileSync(journalFile, bytes)
        const into = rescued()
        const result = await tails(into)
        assert.equal(result.status, status, result.stderr)
        if (status === 1) assert.match(result.stderr, /PROBLEM .*more was flushed/)
        await assertFound(place, into)
      }
    })
  })
}

test('two that contradict are refused, until one is chosen', { skip }, async () => {
  await withPlace(false, async ({ storage, rescued, tails }) => {
    await writeJournal(storage, [0, 20_000])
    const changed = Buffer.from(SENT).fill(1, 9000, 9100)
    await writePiece(storage, 0, 30_000, changed)
    const into = rescued()
    const refused = await tails(into)
    assert.equal(refused.status, 1)
    assert.match(refused.stderr, new RegExp(`--opening ${OTHER} or --opening ${ONE}`))
    assert.deepEqual(readdirSync(join(into, 'pg_wal')), [BEFORE])
    assert.equal((await tails(into, '--opening', ONE)).status, 0)
    const written = readFileSync(join(into, 'pg_wal', NAME))
    assert.ok(written.subarray(0, 20_000).equals(SENT.subarray(0, 20_000)))
  })
})

test('a damaged piece, a hole before it, and a whole segment', { skip }, async () => {
  await withPlace(false, async ({ repository, storage, rescued, tails }) => {
    await writePiece(storage, 0, 10_000)
    await writePiece(storage, 10_000, 20_000)
    const path = join(repository, pieceKey('main', ID, NAME, OTHER, 10_000, 20_000))
    const bytes = readFileSync(path)
    bytes[60] = (bytes[60] as number) ^ 1
    writeFileSync(path, bytes)
    const into = rescued()
    const damaged = await tails(into)
    assert.equal(damaged.status, 1)
    assert.match(damaged.stderr, /PROBLEM .*00002710-00004E20\.piece/)
    const written = readFileSync(join(into, 'pg_wal', NAME))
    assert.ok(written.subarray(0, 10_000).equals(SENT.subarray(0, 10_000)))
    assert.ok(written.subarray(10_000).every((byte) => byte === 0))

    const holed = rescued()
    const earlier = join(holed, 'pg_wal', formatSegmentName(1, 2n, MB))
    writeFileSync(earlier, buildSegment({ segment: 2n }))
    await removeDirectory(join(holed, 'pg_wal', BEFORE))
    assert.match((await tails(holed)).stderr, /the segment before it is missing/)
    assert.equal(existsSync(join(holed, 'pg_wal', NAME)), false)

    const archived = join(repository, `clusters/main/wal/${ID}/00000001/00000000`)
    mkdirSync(archived, { recursive: true })
    writeFileSync(join(archived, `${NAME}.wal`), 'whole')
    const last = rescued()
    assert.equal((await tails(last)).status, 0)
    assert.equal(existsSync(join(last, 'pg_wal', NAME)), false)
  })
})

test('a tail that ends before its timeline begins is not taken', { skip }, async () => {
  await withPlace(false, async ({ storage, rescued, tails, repository }) => {
    const own = formatSegmentName(2, 5n, MB)
    const head = { ...headOf(OTHER), segment: own }
    const piece = encodeTailPiece(head, 0, [SENT.subarray(0, 20_000)])
    await storage.write(pieceKey('main', ID, own, OTHER, 0, 20_000), piece)
    for (const [fork, isTaken] of [
      ['0/505000', false],
      ['0/504000', true],
    ] as const) {
      const into = rescued()
      writeFileSync(join(into, 'pg_wal/00000002.history'), `1\t${fork}\tno recovery target\n`)
      const { status } = await tails(into)
      assert.equal(status, isTaken ? 0 : 1, repository)
      assert.equal(existsSync(join(into, 'pg_wal', own)), isTaken)
    }
  })
})
