/**
 * Keeps what scrypt costs in the private directory of this user, for the `wal push` that
 * PostgreSQL starts for every segment. What is kept is wrapped under the passphrase
 * (repository/key-slots.ts); a memory that cannot be used is no failure.
 */
import { readFileSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { randomHex } from '../base/random.ts'
import type { SlotMemory } from '../repository/key-slots.ts'
import { findPrivateDirectory } from './private-directory.ts'

/** Undefined where there can be no private directory. */
export function openSlotMemory(): SlotMemory | undefined {
  const directory = findPrivateDirectory()
  if (directory === undefined) return undefined
  const pathOf = (slotHash: string): string => join(directory, `slot-${slotHash}.key`)
  return {
    recall(slotHash) {
      try {
        return readFileSync(pathOf(slotHash))
      } catch {
        return undefined
      }
    },
    remember(slotHash, bytes) {
      try {
        const unfinished = `${pathOf(slotHash)}.${randomHex(6)}`
        writeFileSync(unfinished, bytes, { mode: 0o600, flag: 'wx' })
        renameSync(unfinished, pathOf(slotHash))
      } catch {
        // Only time is lost.
      }
    },
  }
}
