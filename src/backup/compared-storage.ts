/**
 * Where the backup that is compared with is read from: the nearest target that has it, and the
 * next one only while that does not answer. What is damaged in one is not taken from another,
 * but stored anew, in all: else a record would be published where its frames are damaged.
 */
import { openFallbackStorage } from '../storage/fallback-storage.ts'
import type { Storage } from '../storage/storage.ts'
import type { WriteGroup } from '../storage/write-group.ts'

export function openComparedStorage(group: WriteGroup, comparedIn: readonly number[]): Storage {
  // Without a base nothing is read.
  const members = comparedIn.length === 0 ? [0] : comparedIn
  return openFallbackStorage(
    members.map((member) => group.storageOf(member)),
    'away',
  )
}
