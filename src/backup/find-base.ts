/**
 * Finds the backup that is compared with, out of what the targets list: one for all of them,
 * since a frame is stored for all or for none (docs/design/several-repositories.md, section 3).
 */
import { listBackups } from '../repository/read-backups.ts'
import { isS3Url } from '../storage/open-storage.ts'
import { type BackupContext, sizesOf } from './backup-context.ts'
import { type ChosenBase, chooseBase, commonBackups } from './choose-base.ts'
import type { Targets } from './targets.ts'

export interface FoundBase {
  readonly base: ChosenBase | undefined
  /** Numbers of the targets that hold the base, the nearest first. */
  readonly comparedIn: readonly number[]
}

/** Backups that a target has and that must not be used there, by its number. */
export type LostBackups = ReadonlyMap<number, ReadonlySet<string>>

export async function findBase(
  context: Omit<BackupContext, 'base' | 'comparedIn'>,
  without: LostBackups = new Map(),
): Promise<FoundBase> {
  const { options, targets, facts, control, beganAt } = context
  if (options.rewrite === true) return { base: undefined, comparedIn: [] }
  const lists = await targets.group.gather(async (storage) => {
    return (await listBackups(storage, options.cluster)).backups
  })
  const systemIdentifier = String(control.systemIdentifier)
  const found = [...lists].map(([target, all]) => {
    const required = targets.list[target]?.required === true
    const backups = all.filter((backup) => {
      if (without.get(target)?.has(backup.id) === true) return false
      return backup.systemIdentifier === systemIdentifier
    })
    return { target, required, backups }
  })
  const base = chooseBase(commonBackups(found), {
    systemIdentifier,
    sizes: sizesOf(control),
    dataChecksumVersion: control.dataChecksumVersion,
    dataDirectory: facts.dataDirectory,
    bootId: facts.bootId,
    bootedAtMs: facts.bootedAtMs,
    now: beganAt,
    full: options.full ?? false,
  })
  const id = base?.backup.id
  const holders = found.filter(({ backups }) => backups.some((backup) => backup.id === id))
  const numbers = holders.map(({ target }) => target)
  return { base, comparedIn: sortByDistance(numbers, targets) }
}

/** Directories before object stores, then in the order of the configuration. */
function sortByDistance(numbers: readonly number[], { list }: Targets): number[] {
  const isFar = (target: number): boolean => isS3Url(list[target]?.specification.url ?? '')
  return numbers.toSorted((a, b) => Number(isFar(a)) - Number(isFar(b)) || a - b)
}
