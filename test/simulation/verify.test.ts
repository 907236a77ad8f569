/**
 * Verify over a small repository in memory: whatever is changed or taken away is found and
 * named, and nothing that is whole is.
 */
import assert from 'node:assert/strict'
import { before, test } from 'node:test'
import { decodeWalObject, encodeWalObject } from '../../src/archive/wal-object.ts'
import { segmentKey, walPrefix } from '../../src/archive/wal-file-name.ts'
import { SILENT } from '../../src/base/progress.ts'
import { verify } from '../../src/recovery/verify.ts'
import type { BackupRecord } from '../../src/repository/backup-record.ts'
import { decodeEnvelope, encodeEnvelope } from '../../src/repository/envelope.ts'
import { backupKey, holdKey, packKey, REPOSITORY_KEY } from '../../src/repository/keys.ts'
import { FRAME_KINDS, type FrameKind } from '../../src/repository/pack-format.ts'
import { openPack } from '../../src/repository/pack-reader.ts'
import { PackWriter } from '../../src/repository/pack-writer.ts'
import {
  encodeLeaf,
  encodeLeafFrame,
  decodeLeaf,
  leafInFrame,
} from '../../src/repository/page-map.ts'
import { systemKey } from '../../src/repository/system-identity.ts'
import { verifiedKey } from '../../src/repository/verified-memory.ts'
import { openMemoryStorage } from '../../src/storage/memory-storage.ts'
import { openFaultyStorage } from '../harness/faulty-storage.ts'
import { SYSTEM, segmentName } from '../harness/wal-builder.ts'
import {
  CLUSTER,
  changeRecord,
  makeRepository,
  type Objects,
  type SmallRepository,
  verifyObjects,
} from './verify-repository.ts'

let repository: SmallRepository

before(async () => {
  repository = await makeRepository()
})

function copyOf(objects: Objects = repository.objects): Objects {
  return new Map([...objects].map(([key, bytes]) => [key, new Uint8Array(bytes)]))
}

/** The objects that findings name. */
async function findingsOf(objects: Objects): Promise<Map<string, string>> {
  const { findings } = await verifyObjects(objects)
  return new Map(findings.map(({ key, code }) => [key, code]))
}

test('a whole repository: no finding, every object counted once', async () => {
  const objects = copyOf()
  const { findings, proved, strangers, unnamed } = await verifyObjects(objects)
  assert.deepEqual(findings, [])
  assert.deepEqual(strangers, [])
  assert.deepEqual(unnamed, { packs: [], bytes: 0 })
  const bytes = [...repository.objects.values()].reduce((sum, one) => sum + one.length, 0)
  assert.equal(proved.objects, repository.objects.size)
  assert.equal(proved.bytes, bytes)
  const packs = [...repository.objects.keys()].filter((key) => key.endsWith('.pack'))
  assert.equal(proved.packs, packs.length)
  assert.equal(proved.backups, 2)
  assert.equal(proved.segments, 4)
  // Only what is remembered was written.
  const written = [...objects.keys()].filter((key) => !repository.objects.has(key))
  assert.deepEqual(written, [verifiedKey(CLUSTER)])
})

test('an object that is cut, emptied or longer is found', async () => {
  for (const [key, bytes] of repository.objects) {
    const changes = [
      bytes.subarray(0, bytes.length >> 1),
      Buffer.concat([bytes, Buffer.alloc(1, 9)]),
    ]
    if (key !== REPOSITORY_KEY) changes.push(new Uint8Array(0))
    for (const change of changes) {
      const objects = copyOf()
      objects.set(key, change)
      assert.ok((await findingsOf(objects)).has(key), `${key} of ${change.length} bytes`)
    }
  }
})

test('what is missing is found where anything needs it', async () => {
  const codes = new Map<string, string | undefined>()
  for (const key of repository.objects.keys()) {
    if (key === REPOSITORY_KEY) continue
    const objects = copyOf()
    objects.delete(key)
    codes.set(key, (await findingsOf(objects)).get(key))
  }
  for (const [key, code] of codes) {
    if (/\/(labels|partial|quarantine|writers|tails)\//.test(key))
      assert.equal(code, undefined, key)
    else assert.match(code ?? 'nothing', key.endsWith('.wal') ? /TM1408/ : /TM1602/, key)
  }
})

test('the last segment is missed by who has seen it', async () => {
  const objects = copyOf()
  await verifyObjects(objects)
  const last = segmentName({ timeline: 2, segment: 4n })
  const key = segmentKey(CLUSTER, SYSTEM.toString(), last)
  const bytes = objects.get(key) as Uint8Array
  objects.delete(key)
  for (let run = 0; run < 2; run++) {
    const { findings } = await verifyObjects(objects, { kind: 'incremental', days: 30 })
    assert.deepEqual(
      findings.map((finding) => [finding.key, finding.code]),
      [[key, 'TM1408']],
    )
  }
  objects.set(key, bytes)
  assert.deepEqual((await verifyObjects(objects, { kind: 'incremental', days: 30 })).findings, [])
})

test('two packs that changed places are both found', async () => {
  const [one, other] = [...repository.objects.keys()].filter((key) => key.endsWith('.pack'))
  const objects = copyOf()
  objects.set(one as string, repository.objects.get(other as string) as Uint8Array)
  objects.set(other as string, repository.objects.get(one as string) as Uint8Array)
  const found = await findingsOf(objects)
  assert.equal(found.get(one as string), 'TM1601')
  assert.equal(found.get(other as string), 'TM1601')
})

test('a frame of pages costs the backups and files that have it, and no other', async () => {
  const [first, second] = repository.backups as [BackupRecord, BackupRecord]
  // Only the second backup has what its own packs hold; the first pack serves both.
  for (const [id, expected] of [
    [second.packs.find(({ id }) => !first.packs.some((one) => one.id === id))?.id, [second.id]],
    [first.packs[0]?.id, [first.id, second.id]],
  ] as const) {
    const key = packKey(CLUSTER, id as string)
    const objects = copyOf()
    const reader = await openPack(openMemoryStorage(objects), CLUSTER, id as string)
    const frame = reader.frames.findIndex(({ kind }) => kind === FRAME_KINDS.pages)
    const bytes = objects.get(key) as Uint8Array
    const { offset, storedLength, extents } = reader.frames[frame] as (typeof reader.frames)[0]
    bytes[offset + (storedLength >> 1)] = (bytes[offset + (storedLength >> 1)] as number) ^ 4
    const { findings } = await verifyObjects(objects)
    assert.equal(findings.length, 1)
    const [finding] = findings
    assert.deepEqual([finding?.code, finding?.key, finding?.frame], ['TM1601', key, frame])
    assert.deepEqual(finding?.backups, [...expected].sort())
    assert.deepEqual(finding?.relations, [...new Set(extents.map(({ path }) => path))].sort())
  }
})

/** Writes a pack anew with other content, and the records so that they expect its size. */
async function rewritePack(
  objects: Objects,
  id: string,
  change: (kind: number, raw: Uint8Array) => Uint8Array,
): Promise<void> {
  const storage = openMemoryStorage(objects)
  const reader = await openPack(storage, CLUSTER, id)
  const writer = new PackWriter({
    storage,
    cluster: CLUSTER,
    attemptId: id.slice(0, 24),
    firstSequence: Number.parseInt(id.slice(24), 16),
    sequenceStep: 1,
    compressionLevel: 1,
  })
  await writer.begin()
  for (const [ordinal, { kind, slots, extents }] of reader.frames.entries()) {
    const raw = new Uint8Array(await reader.readFrame(ordinal))
    writer.add(kind as FrameKind, change(kind, raw), slots, extents)
  }
  await writer.finish()
  for (const { id: backup } of repository.backups) changeRecord(objects, backup, withoutSizes)
}

function withoutSizes(record: BackupRecord): BackupRecord {
  return { ...record, packs: record.packs.map(({ id }) => ({ id })) }
}

const WRONG_LEAVES = {
  'a wrong slot': (slot: number) => ({ slot: slot === 0 ? 1 : slot - 1 }),
  'a frame that is not there': () => ({ frame: 60_000 }),
  'a slot that is not there': () => ({ slot: 15, count: 1 }),
} as const

for (const [name, change] of Object.entries(WRONG_LEAVES)) {
  test(`a leaf that names ${name} is found`, async () => {
    const objects = copyOf()
    const first = repository.backups[0] as BackupRecord
    let changed = false
    for (const { id } of first.packs) {
      const reader = await openPack(openMemoryStorage(objects), CLUSTER, id)
      if (!reader.frames.some(({ kind }) => kind === FRAME_KINDS.leaves)) continue
      await rewritePack(objects, id, (kind, raw) => {
        if (kind !== FRAME_KINDS.leaves || changed) return raw
        const count = Buffer.from(raw).readUInt32LE(0)
        const leaves = Array.from({ length: count }, (_, slot) =>
          decodeLeaf('a test', leafInFrame('a test', raw, slot)),
        )
        // A leaf of one page: its run can name any slot.
        const at = leaves.findIndex(({ pageCount }) => pageCount === 1)
        const leaf = leaves[at]
        const run = leaf?.runs[0]
        if (leaf === undefined || run === undefined) return raw
        changed = true
        leaves[at] = { ...leaf, runs: [{ ...run, ...change(run.slot) }] }
        return encodeLeafFrame(leaves.map(encodeLeaf))
      })
    }
    assert.ok(changed)
    const { findings } = await verifyObjects(objects)
    assert.deepEqual([...new Set(findings.map(({ code }) => code))], ['TM1603'])
    assert.ok(findings.every(({ backups }) => backups.includes(first.id)))
    assert.ok(findings.every(({ files }) => files === 1))
  })
}

const WRONG_RECORDS: Record<string, (record: BackupRecord) => BackupRecord> = {
  'another content hash': (record) => ({
    ...record,
    files: { ...record.files, contentHash: 'a'.repeat(64) },
  }),
  'another number of entries': (record) => ({
    ...record,
    files: { ...record.files, entries: record.files.entries + 1 },
  }),
  'a pack less than it needs': (record) => ({ ...record, packs: record.packs.slice(1) }),
}

for (const [name, change] of Object.entries(WRONG_RECORDS)) {
  test(`a record with ${name} is found`, async () => {
    const objects = copyOf()
    const { id } = repository.backups[1] as BackupRecord
    changeRecord(objects, id, change)
    const { findings } = await verifyObjects(objects)
    assert.deepEqual(
      findings.map((finding) => [finding.code, finding.key, finding.backups]),
      [['TM1603', backupKey(CLUSTER, id), [id]]],
    )
  })
}

test('a digest that the leaves of the file do not make is found', async () => {
  const objects = copyOf()
  const { id, files } = repository.backups[0] as BackupRecord
  await rewritePack(objects, files.pieces[0]?.pack as string, (kind, raw) => {
    if (kind !== FRAME_KINDS.fileList) return raw
    const text = Buffer.from(raw).toString()
    return Buffer.from(text.replace(/"digest":"[0-9a-f]{64}"/, `"digest":"${'0'.repeat(64)}"`))
  })
  const { findings } = await verifyObjects(objects)
  const own = findings.filter(({ because }) => /leaves do not make its digest/.test(because ?? ''))
  assert.equal(own.length, 1, JSON.stringify(findings))
  assert.equal(own[0]?.code, 'TM1603')
  assert.ok(own[0]?.backups.includes(id))
})

test('a segment that is as it was archived, and whose records do not hold, is found', async () => {
  const objects = copyOf()
  const name = segmentName({ segment: 2n })
  const key = segmentKey(CLUSTER, SYSTEM.toString(), name)
  const { content } = decodeWalObject(key, objects.get(key) as Uint8Array)
  content[500] = (content[500] as number) ^ 1
  const object = { systemIdentifier: SYSTEM.toString(), name, headerTimeline: 1, content }
  objects.set(key, encodeWalObject(object))
  const { findings, proved } = await verifyObjects(objects)
  assert.deepEqual(
    findings.map((finding) => [finding.code, finding.key]),
    [['TM1409', key]],
  )
  assert.equal(findings[0]?.intervals?.[0]?.fromLsn, '0/200000')
  // What follows is proved by its hashes all the same.
  assert.equal(proved.segments, 3)
})

test('an identity that contradicts the backups is found', async () => {
  const objects = copyOf()
  const key = systemKey(CLUSTER, SYSTEM.toString())
  const text = Buffer.from(objects.get(key) as Uint8Array).toString()
  objects.set(key, Buffer.from(text.replace('"major":15', '"major":16')))
  const { findings } = await verifyObjects(objects)
  assert.equal(findings[0]?.key, key)
  assert.deepEqual(findings[0]?.backups, repository.backups.map(({ id }) => id).sort())
})

test('a history that contradicts the segments or is no history is found', async () => {
  const key = `${walPrefix(CLUSTER, SYSTEM.toString())}00000002.history`
  for (const text of ['1\t0/500000\tlater than its first segment\n', 'nonsense\n']) {
    const objects = copyOf()
    const name = '00000002.history'
    const content = Buffer.from(text)
    const object = { systemIdentifier: SYSTEM.toString(), name, headerTimeline: 0, content }
    objects.set(key, encodeWalObject(object))
    assert.equal((await findingsOf(objects)).get(key), 'TM1410', text)
  }
})

test('what was proved lately is not read again; what is new is', async () => {
  const objects = copyOf()
  await verifyObjects(objects)
  const again = await verifyObjects(objects, { kind: 'incremental', days: 1 })
  assert.deepEqual(again.findings, [])
  assert.equal(again.proved.packs, 0)
  assert.equal(again.proved.segments, 0)
  assert.equal(again.proved.pagesCompared, 0)
  const everything = await verifyObjects(objects, { kind: 'incremental', days: 0 })
  assert.equal(everything.left.packs, 0)
  // Seen within this second counts as seen.
  const later = new Map(objects)
  later.delete(verifiedKey(CLUSTER))
  const first = await verifyObjects(later, { kind: 'incremental', days: 1 })
  assert.equal(first.proved.packs, 4)
  assert.equal(first.proved.pagesCompared, again.proved.pagesCompared + 162)
})

test('runs with a budget prove everything in the end, each from where one stopped', async () => {
  const objects = copyOf()
  const mode = { kind: 'incremental', days: 30, budget: { bytes: 1 } } as const
  let packs = 0
  let compared = 0
  let runs = 0
  for (let isDone = false; !isDone; runs++) {
    assert.ok(runs < 100)
    const { findings, proved, left } = await verifyObjects(objects, mode)
    assert.deepEqual(findings, [])
    packs += proved.packs
    compared += proved.pagesCompared
    isDone = left.packs + left.segments + left.backups === 0
  }
  assert.ok(runs > 4, `${runs} runs`)
  assert.equal(packs, 4)
  assert.equal(compared, 162)
})

test('a walk over the maps goes on at the path where a budget ended it', async () => {
  const { objects } = await makeRepository(300)
  const { proved: whole } = await verifyObjects(copyOf(objects))
  const counts: number[] = []
  const mode = { kind: 'incremental', days: 30, budget: { bytes: 1 } } as const
  for (let left = 1; left > 0; ) {
    assert.ok(counts.length < 100)
    const report = await verifyObjects(objects, mode)
    assert.deepEqual(report.findings, [])
    left = report.left.packs + report.left.segments + report.left.backups
    counts.push(report.proved.pagesCompared)
  }
  assert.ok(counts.filter((count) => count > 0).length > 1, `${counts}`)
  assert.equal(
    counts.reduce((sum, count) => sum + count, 0),
    whole.pagesCompared,
  )
})

test('damage is told with all its costs, whatever the budget', async () => {
  const objects = copyOf()
  const [first] = repository.backups
  objects.delete(packKey(CLUSTER, first?.packs[0]?.id as string))
  const { findings } = await verifyObjects(objects, {
    kind: 'incremental',
    days: 30,
    budget: { bytes: 1 },
  })
  assert.deepEqual(findings[0]?.backups, repository.backups.map(({ id }) => id).sort())
  assert.ok((findings[0]?.files ?? 0) > 3)
})

test('damage in what was proved lately is found once it is due, with what it costs', async () => {
  const objects = copyOf()
  await verifyObjects(objects)
  const key = packKey(CLUSTER, repository.backups[0]?.packs[0]?.id as string)
  const bytes = objects.get(key) as Uint8Array
  bytes[200] = (bytes[200] as number) ^ 1
  const lately = await verifyObjects(objects, { kind: 'incremental', days: 30 })
  assert.deepEqual(lately.findings, [])
  // So that the one pack is due, and the maps are not.
  const memory = await import('../../src/repository/verified-memory.ts')
  const { memory: seen } = await memory.readVerifiedMemory(openMemoryStorage(objects), CLUSTER)
  seen.objects.set(key, 1)
  await memory.writeVerifiedMemory(openMemoryStorage(objects), CLUSTER, seen)
  const { findings } = await verifyObjects(objects, { kind: 'incremental', days: 30 })
  assert.equal(findings[0]?.key, key)
  assert.ok((findings[0]?.backups.length ?? 0) > 0)
})

test('a damaged memory costs a remark and a full proof', async () => {
  const objects = copyOf()
  await verifyObjects(objects)
  const bytes = objects.get(verifiedKey(CLUSTER)) as Uint8Array
  for (let at = 0; at < bytes.length; at += 7) {
    const changed = new Map(objects)
    const flipped = new Uint8Array(bytes)
    flipped[at] = (flipped[at] as number) ^ 0x20
    changed.set(verifiedKey(CLUSTER), flipped)
    const report = await verifyObjects(changed, { kind: 'incremental', days: 30 })
    assert.deepEqual(report.findings, [])
    assert.equal(report.notes.length, 1, `byte ${at}`)
    assert.equal(report.proved.packs, 4)
  }
})

test('--backup proves what one backup needs, and nothing of the other', async () => {
  const [first, second] = repository.backups as [BackupRecord, BackupRecord]
  const own = second.packs.find(({ id }) => !first.packs.some((one) => one.id === id))
  const objects = copyOf()
  objects.delete(packKey(CLUSTER, own?.id as string))
  assert.deepEqual((await verifyObjects(objects, { kind: 'backup', id: first.id })).findings, [])
  const { findings, proved } = await verifyObjects(objects, { kind: 'backup', id: second.id })
  assert.deepEqual(findings[0]?.backups, [second.id])
  assert.ok(proved.packs < 4)
})

for (const was of ['missing', 'damaged'] as const) {
  test(`--rebuild-catalogue writes a ${was} record again, byte for byte`, async () => {
    for (const { id } of repository.backups) {
      const objects = copyOf()
      const key = backupKey(CLUSTER, id)
      if (was === 'missing') objects.delete(key)
      else objects.set(key, (objects.get(key) as Uint8Array).subarray(0, 100))
      const { rebuilt, findings } = await verifyObjects(objects, { kind: 'full' }, true)
      assert.deepEqual(rebuilt, [{ backupId: id, key, was }])
      assert.deepEqual(findings, [])
      assert.deepEqual(
        decodeEnvelope(key, 'RECD', objects.get(key) as Uint8Array),
        decodeEnvelope(key, 'RECD', repository.objects.get(key) as Uint8Array),
      )
      assert.equal(objects.has(`${key}.damaged`), was === 'damaged')
    }
  })
}

test('the record of a backup under way is neither missed nor rebuilt', async () => {
  const { id } = repository.backups[1] as BackupRecord
  const objects = copyOf()
  objects.delete(backupKey(CLUSTER, id))
  const hold = { backupId: id, attemptId: 'a'.repeat(24), comparedWith: [] }
  objects.set(holdKey(CLUSTER, id), encodeEnvelope('HOLD', Buffer.from(JSON.stringify(hold))))
  const { findings, rebuilt, unnamed } = await verifyObjects(objects, { kind: 'full' }, true)
  assert.deepEqual(findings, [])
  assert.deepEqual(rebuilt, [])
  assert.equal(unnamed.packs.length, 2)
})

test('interrupted anywhere, it has changed nothing', async () => {
  const whole = openFaultyStorage(openMemoryStorage(copyOf()))
  const base = { cluster: CLUSTER, mode: { kind: 'full' }, workers: 1, progress: SILENT } as const
  const never = new AbortController().signal
  await verify({ ...base, storage: whole, rebuildCatalogue: false, signal: never })
  const calls = whole.trace.length
  for (let at = 1; at < calls; at += 5) {
    const objects = copyOf()
    const storage = openFaultyStorage(openMemoryStorage(objects), [
      { at, kind: 'crash', when: 'before' },
    ])
    await assert.rejects(
      verify({ ...base, storage, rebuildCatalogue: false, signal: never }),
      /crashed at call/,
    )
    assert.deepEqual(objects, repository.objects)
  }
  const aborted = AbortSignal.abort()
  const objects = copyOf()
  const storage = openMemoryStorage(objects)
  await assert.rejects(verify({ ...base, storage, rebuildCatalogue: false, signal: aborted }))
  assert.deepEqual(objects, repository.objects)
})

test('a segment that arrives while verify runs is no finding', async () => {
  const objects = copyOf()
  const key = segmentKey(CLUSTER, SYSTEM.toString(), segmentName({ segment: 2n }))
  const late = objects.get(key) as Uint8Array
  objects.delete(key)
  const inner = openMemoryStorage(objects)
  const seen: string[] = []
  // It comes with the first object that is read after the listing of the WAL.
  const storage = new Proxy(inner, {
    get(target, name: keyof typeof inner) {
      const method = target[name]
      if (typeof method !== 'function') return method
      return (...words: unknown[]) => {
        seen.push(`${name} ${String(words[0])}`)
        if (name === 'read' && String(words[0]).endsWith('3.wal')) objects.set(key, late)
        return Reflect.apply(method, target, words) as unknown
      }
    },
  })
  const { findings, notes } = await verify({
    storage,
    cluster: CLUSTER,
    mode: { kind: 'full' },
    workers: 1,
    rebuildCatalogue: false,
    progress: SILENT,
    signal: new AbortController().signal,
  })
  assert.ok(seen.some((call) => call.endsWith('3.wal')))
  assert.deepEqual(findings, [])
  assert.match(notes.join(), /is now/)
})
