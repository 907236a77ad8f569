import assert from 'node:assert/strict'
import { chmodSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { isFailure } from '../base/failure.ts'
import { SILENT } from '../base/progress.ts'
import { crc32c } from '../postgres/crc32c.ts'
import { compactPack } from '../repository/compact-pack.ts'
import { packKey } from '../repository/keys.ts'
import { parseFileUrl } from '../storage/open-storage.ts'
import {
  CLUSTER,
  type HandMadeBackup,
  type Layout,
  makeBackup,
  randomOf,
} from '../../test/harness/hand-made-backup.ts'
import { temporaryDirectory } from '../../test/harness/temporary-directory.ts'
import { type RestoredFile, restoreFiles, type RestoreFilesOptions } from './restore-files.ts'

interface Restored {
  readonly directory: string
  readonly list: readonly RestoredFile[]
}

async function restore(
  backup: HandMadeBackup,
  options: Partial<RestoreFilesOptions> & { readonly workers: number },
): Promise<Restored> {
  const directory = join(temporaryDirectory(), 'data')
  mkdirSync(directory, { mode: 0o700 })
  const list: RestoredFile[] = []
  await restoreFiles({
    storage: { url: backup.url },
    record: backup.record,
    dataDirectory: directory,
    owner: undefined,
    progress: SILENT,
    placeOf: ({ path }) => path,
    onFile: (file) => {
      list.push(file)
    },
    ...options,
  })
  return { directory, list }
}

function assertWhole({ files }: HandMadeBackup, { directory, list }: Restored, what: string): void {
  for (const [path, content] of files) {
    assert.ok(readFileSync(join(directory, path)).equals(content), `${what}: ${path}`)
  }
  const expected = [...files].map(([path, content]) => {
    return { path, size: content.length, crc32c: crc32c(content) }
  })
  const byPath = (one: { path: string }, other: { path: string }): number =>
    one.path < other.path ? -1 : 1
  assert.deepEqual(list, expected.sort(byPath), what)
}

/** Two large files, many small ones, and others from nothing to several frames. */
function layoutOf(seed: number): Layout {
  const random = randomOf(seed ^ 0x5eed)
  const pages = [1024 + random(1500), 1024 + random(200)]
  for (let file = 0; file < 40; file++) pages.push(random(random(6) === 0 ? 300 : 12))
  const contents = Array.from({ length: 12 }, () => random(random(3) === 0 ? 600_000 : 9000))
  return { seed, pages, contents: [...contents, 0, 131_072], packs: 1 + random(4) }
}

for (const seed of [1, 2]) {
  test(`a random layout comes back whole, in batches of any size (seed ${seed})`, async () => {
    const backup = await makeBackup(layoutOf(seed))
    for (const batchPages of [1, 700, 100_000]) {
      const workers = 1 + ((seed + batchPages) % 4)
      const limits = { batchPages, writeBackBytes: 4_000_000 }
      const restored = await restore(backup, { workers, limits })
      assertWhole(backup, restored, `seed ${seed}, ${workers} workers, ${batchPages} pages`)
    }
  })
}

/** Of each pack, what it is without its first frames; the pack itself stays as it was. */
async function makeSparse(
  backup: HandMadeBackup,
  deadFrames: number,
): Promise<Map<string, string>> {
  const sparse = new Map<string, string>()
  for (const pack of backup.packs) {
    const path = join(parseFileUrl(backup.url), packKey(CLUSTER, pack))
    const whole = readFileSync(path)
    await compactPack(backup.storage, CLUSTER, pack, (ordinal) => ordinal >= deadFrames)
    renameSync(path, `${path}~`)
    writeFileSync(path, whole)
    sparse.set(path, `${path}~`)
  }
  return sparse
}

test('packs that are replaced by sparse ones in mid-restore are read again', async () => {
  for (const [seed, at] of [
    [21, 0.01],
    [22, 0.3],
    [23, 0.6],
  ] as const) {
    const pages = [4000, 3000, ...Array.from({ length: 200 }, (_, file) => 1 + (file % 40))]
    const contents = [9000, 4_000_000, 70_000, 5_000_000]
    const backup = await makeBackup({ seed, pages, contents, packs: 3, deadFrames: 9 })
    const sparse = await makeSparse(backup, 9)
    let bytes = 0
    const progress = {
      ...SILENT,
      advance: (units: number) => {
        bytes += units
        if (bytes < backup.record.files.bytes * at) return
        for (const [path, replacement] of sparse) renameSync(replacement, path)
        sparse.clear()
      },
    }
    const limits = { batchPages: 2000, writeBackBytes: 4_000_000 }
    const restored = await restore(backup, { workers: 2, progress, limits })
    assert.equal(sparse.size, 0)
    assertWhole(backup, restored, `seed ${seed}, replaced at ${at}`)
  }
})

/** What a medium does: bits, sectors of zeros, sectors of something else. */
function damage(bytes: Buffer, random: (below: number) => number): void {
  const at = random(bytes.length)
  const sector = bytes.subarray(at - (at % 512), at - (at % 512) + 512)
  const kind = random(3)
  if (kind === 0) bytes[at] = (bytes[at] as number) ^ (1 << random(8))
  else if (kind === 1) sector.fill(0)
  else for (let byte = 0; byte < sector.length; byte++) sector[byte] = random(256)
}

test('damage anywhere in a pack ends the restore and names the pack', async () => {
  const pages = [1100, 70, 9, 9, 3]
  const backup = await makeBackup({ seed: 7, pages, contents: [250_000, 9000, 40], packs: 2 })
  const random = randomOf(7)
  for (let round = 0; round < 14; round++) {
    const key = packKey(CLUSTER, backup.packs[round % 2] as string)
    const path = join(parseFileUrl(backup.url), key)
    const whole = readFileSync(path)
    const damaged = Buffer.from(whole)
    damage(damaged, random)
    if (damaged.equals(whole)) continue
    writeFileSync(path, damaged)
    await assert.rejects(restore(backup, { workers: 2 }), (error) => {
      assert.ok(isFailure(error, 'TM1601'), `round ${round}: ${String(error)}`)
      assert.ok(error.message.includes(key), `round ${round}: ${error.message}`)
      return true
    })
    writeFileSync(path, whole)
  }
  assertWhole(backup, await restore(backup, { workers: 2 }), 'undamaged')
})

test('damage in the first frames of a large content file names the pack', async () => {
  const backup = await makeBackup({ seed: 8, pages: [], contents: [20 * 1024 * 1024], packs: 1 })
  const key = packKey(CLUSTER, backup.packs[0] as string)
  const path = join(parseFileUrl(backup.url), key)
  const damaged = readFileSync(path)
  damaged[100_000] = (damaged[100_000] as number) ^ 1
  writeFileSync(path, damaged)
  await assert.rejects(restore(backup, { workers: 1 }), (error) => isFailure(error, 'TM1601'))
})

test('an early sync that fails ends the restore, even after the last task', async (t) => {
  const backup = await makeBackup({ seed: 9, pages: [3000], contents: [], packs: 1 })
  const programs = temporaryDirectory()
  const sync = join(programs, 'sync')
  writeFileSync(sync, '#!/bin/sh\nsleep 2\necho "sync: error syncing" >&2\nexit 1\n')
  chmodSync(sync, 0o755)
  const path = process.env['PATH']
  t.after(() => {
    process.env['PATH'] = path
  })
  process.env['PATH'] = `${programs}:${path}`
  const limits = { batchPages: 100_000, writeBackBytes: 8192 }
  await assert.rejects(restore(backup, { workers: 2, limits }), (error) => {
    return isFailure(error, 'TM1217') && error.because === 'sync: error syncing'
  })
})

test('an interruption at any moment ends the restore', async () => {
  const backup = await makeBackup(layoutOf(11))
  // Zero pages within a file are no progress, so the sum is never reached.
  const total = backup.record.files.bytes
  const limits = { batchPages: 700, writeBackBytes: 4_000_000 }
  for (const part of [0, 0.01, 0.3, 0.6]) {
    const controller = new AbortController()
    let bytes = 0
    const progress = {
      ...SILENT,
      advance: (units: number) => {
        bytes += units
        if (bytes >= total * part) controller.abort()
      },
    }
    if (part === 0) controller.abort()
    const { signal } = controller
    await assert.rejects(restore(backup, { workers: 3, limits, progress, signal }), (error) => {
      return isFailure(error, 'TM1217') && /interrupted/.test(error.message)
    })
  }
})
