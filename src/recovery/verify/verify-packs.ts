/** The phase of the packs: every due pack is proved whole, oldest proof first. */
import { toFailureMessage } from '../../base/failure.ts'
import { damagedObject, missingObject } from '../../repository/envelope.ts'
import { findWholePacks } from '../../repository/judge-pack-size.ts'
import { backupKey, holdKey, packKey } from '../../repository/keys.ts'
import { orderByAge } from './budget.ts'
import type { Knowledge, PackAnswer, PackTask } from './messages.ts'
import { type PackPrints, printsBytes } from './page-prints.ts'
import { runAll } from './verify-pool.ts'
import { addFault, countObject, isDue, type VerifyState } from './verify-state.ts'

/** Of prints that wait for the maps: 16 million pages, 128 GiB. */
const KEPT_PRINT_BYTES = 136 * 1024 * 1024

/**
 * Packs that a record names and that are missing, or have another size than was written and are
 * not whole by themselves: which frames sparse ones have dropped is a matter of the maps.
 */
export async function judgeNamedPacks(state: VerifyState): Promise<void> {
  const { storage, cluster, inventory, chosen } = state
  const named = chosen.flatMap(({ packs }) => packs)
  const differ = named.filter(({ id, bytes }) => {
    const size = inventory.packs.get(id)
    return size !== undefined && bytes !== undefined && bytes !== size
  })
  const ids = [...new Set(differ.map(({ id }) => id))]
  const whole = new Set((await findWholePacks(storage, cluster, ids)).keys())
  for (const backup of state.chosen) {
    for (const { id, bytes } of backup.packs) {
      const size = state.inventory.packs.get(id)
      const key = packKey(state.cluster, id)
      if (size === undefined) {
        const failure = toFailureMessage(missingObject(key, `backup ${backup.id}`))
        addFault(state, { pack: id, frame: undefined, failure }).backups.add(backup.id)
      } else if (bytes !== undefined && bytes !== size && !whole.has(id)) {
        const because = `it has ${size} bytes, and ${bytes} were written`
        const failure = toFailureMessage(damagedObject(key, because))
        addFault(state, { pack: id, frame: undefined, failure }).backups.add(backup.id)
      }
    }
  }
}

/** Told to the workers for the maps that follow. */
export async function verifyPacks(state: VerifyState): Promise<Knowledge> {
  const { inventory, memory, progress, budget, left } = state
  const due = orderByAge(dueOf(state), (id) => memory.objects.get(packKey(state.cluster, id)))
  const total = due.reduce((sum, id) => sum + (inventory.packs.get(id) ?? 0), 0)
  progress.phase('proving packs', total, 'bytes')
  const prints = new Map<string, PackPrints>()
  let kept = 0
  function* tasks(): Generator<PackTask> {
    for (const [number, pack] of due.entries()) {
      if (budget.isSpent) {
        left.packs = due.length - number
        return
      }
      budget.spend(inventory.packs.get(pack) ?? 0)
      yield { kind: 'pack', pack }
    }
  }
  await runAll(
    state.pool,
    tasks(),
    (task, answer) => {
      progress.advance(inventory.packs.get(task.pack) ?? 0)
      takeAnswer(state, task.pack, answer)
      if (answer.prints === undefined || kept >= KEPT_PRINT_BYTES) return
      prints.set(task.pack, answer.prints)
      kept += printsBytes(answer.prints)
    },
    state.signal,
  )
  return { prints, damaged: damagedFrames(state) }
}

function dueOf(state: VerifyState): string[] {
  const { inventory, chosen, cluster } = state
  const named = state.isOneBackup
    ? new Set(chosen.flatMap(({ packs }) => packs.map(({ id }) => id)))
    : undefined
  return [...inventory.packs.keys()].filter(
    (id) => (named?.has(id) ?? true) && isDue(state, packKey(cluster, id)),
  )
}

function takeAnswer(state: VerifyState, pack: string, answer: PackAnswer): void {
  const { proved, inventory, cluster } = state
  const key = packKey(cluster, pack)
  proved.frames += answer.frames
  proved.pages += answer.pages
  for (const fault of answer.faults) if (isStillThere(state, pack, fault)) addFault(state, fault)
  const { records, holds } = inventory
  for (const { backupId } of answer.records) {
    const record = backupKey(cluster, backupId)
    const isUnderWay = holds.includes(holdKey(cluster, backupId))
    const isExpected = !isUnderWay && !state.condemned.hasBackup(backupId)
    if (!records.includes(record) && isExpected) missesRecord(state, backupId, key)
  }
  if (answer.faults.length > 0) return
  proved.packs++
  countObject(state, key, inventory.packs.get(pack) ?? answer.bytes)
}

/** A pack of an attempt that was cleaned up meanwhile, and that nobody names, is no loss. */
function isStillThere(
  { backups }: VerifyState,
  pack: string,
  { failure }: PackAnswer['faults'][number],
): boolean {
  if (failure.code !== 'TM1602') return true
  return backups.some(({ packs }) => packs.some(({ id }) => id === pack))
}

/**
 * The pack says that there was such a backup; nothing that is under way is called so, and of one
 * that expired the pack says it no more.
 */
export function missesRecord(state: VerifyState, backupId: string, witness: string): void {
  const key = backupKey(state.cluster, backupId)
  const failure = toFailureMessage(missingObject(key, `the copy of the record in ${witness}`))
  const fix = `tidemark verify ${state.cluster} --rebuild-catalogue writes it again from the packs`
  state.book.add(key, failure, { fix }).backups.add(backupId)
}

function damagedFrames({ book, inventory, cluster }: VerifyState): Map<string, number[]> {
  const packs = new Map([...inventory.packs.keys()].map((id) => [packKey(cluster, id), id]))
  const damaged = new Map<string, number[]>()
  for (const { key, frame } of book.all) {
    const pack = packs.get(key)
    if (pack === undefined) continue
    if (frame === undefined) damaged.set(pack, [])
    else if (damaged.get(pack)?.length !== 0) {
      damaged.set(pack, [...(damaged.get(pack) ?? []), frame])
    }
  }
  return damaged
}
