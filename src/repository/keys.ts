/**
 * Keys of the objects of a repository (docs/design/repository-format.md, section 1).
 * WAL objects are named by archive/.
 */
import { Failure } from '../base/failure.ts'
import { randomHex } from '../base/random.ts'

export const REPOSITORY_KEY = 'tidemark.repository'

const CLUSTER_NAME = /^[a-z][a-z0-9_-]{0,62}$/
const BACKUP_ID = /^\d{8}-\d{6}-[a-z0-9]{4}$/

/** Length of the attempt's part of a pack id, in hex digits. */
const ATTEMPT_ID_LENGTH = 24

export function isClusterName(name: string): boolean {
  return CLUSTER_NAME.test(name)
}

export function isBackupId(id: string): boolean {
  return BACKUP_ID.test(id)
}

/** `20261121-140311-k3f9`: a name, never a sort key. */
export function makeBackupId(at: Date): string {
  const digits = at.toISOString().replaceAll(/[-:]/g, '')
  const random = BigInt(`0x${randomHex(6)}`)
    .toString(36)
    .padStart(4, '0')
    .slice(-4)
  return `${digits.slice(0, 8)}-${digits.slice(9, 15)}-${random}`
}

export function clusterPrefix(cluster: string): string {
  if (!isClusterName(cluster)) {
    throw new Failure('TM1001', {
      message: `'${cluster}' is not a cluster name`,
      because: 'a name has 1 to 63 of a-z, 0-9, _ and -, and begins with a letter',
      fix: 'choose another name',
    })
  }
  return `clusters/${cluster}/`
}

export function backupPrefix(cluster: string): string {
  return `${clusterPrefix(cluster)}backups/`
}

export function backupKey(cluster: string, backupId: string): string {
  return `${backupPrefix(cluster)}${backupId}.record`
}

/** The backup id in a record's key, or undefined for another key. */
export function parseBackupKey(key: string): string | undefined {
  const id = /\/backups\/([^/]+)\.record$/.exec(key)?.[1]
  return id !== undefined && isBackupId(id) ? id : undefined
}

export function packPrefix(cluster: string): string {
  return `${clusterPrefix(cluster)}packs/`
}

export function attemptPrefix(cluster: string, attemptId: string): string {
  return `${packPrefix(cluster)}${attemptId}/`
}

export function packKey(cluster: string, packId: string): string {
  const attempt = attemptOfPack(packId)
  return `${attemptPrefix(cluster, attempt)}${packId.slice(ATTEMPT_ID_LENGTH)}.pack`
}

/** packKey() or dumpPackKey(): backups and dumps have packs of their own. */
export type PackKeyOf = (cluster: string, packId: string) => string

/** The attempt that wrote a pack. */
export function attemptOfPack(packId: string): string {
  return packId.slice(0, ATTEMPT_ID_LENGTH)
}

/** The pack id in a pack's key, or undefined for another key. */
export function parsePackKey(key: string): string | undefined {
  const match = /\/packs\/([0-9a-f]{24})\/([0-9a-f]{8})\.pack$/.exec(key)
  return match === null ? undefined : `${match[1]}${match[2]}`
}

export function formatPackId(attemptId: string, sequence: number): string {
  return attemptId + sequence.toString(16).padStart(8, '0')
}

export function dumpPrefix(cluster: string): string {
  return `${clusterPrefix(cluster)}dumps/`
}

/** A dump's id has the form of a backup's. */
export function dumpKey(cluster: string, dumpId: string): string {
  return `${dumpPrefix(cluster)}${dumpId}.dump`
}

/** The dump id in a record's key, or undefined for another key. */
export function parseDumpKey(key: string): string | undefined {
  const id = /\/dumps\/([^/]+)\.dump$/.exec(key)?.[1]
  return id !== undefined && isBackupId(id) ? id : undefined
}

export function dumpPackPrefix(cluster: string): string {
  return `${clusterPrefix(cluster)}dump-packs/`
}

export function dumpAttemptPrefix(cluster: string, attemptId: string): string {
  return `${dumpPackPrefix(cluster)}${attemptId}/`
}

export function dumpPackKey(cluster: string, packId: string): string {
  const attempt = attemptOfPack(packId)
  return `${dumpAttemptPrefix(cluster, attempt)}${packId.slice(ATTEMPT_ID_LENGTH)}.pack`
}

/** The pack id in the key of a dump's pack, or undefined for another key. */
export function parseDumpPackKey(key: string): string | undefined {
  const match = /\/dump-packs\/([0-9a-f]{24})\/([0-9a-f]{8})\.pack$/.exec(key)
  return match === null ? undefined : `${match[1]}${match[2]}`
}

export function holdPrefix(cluster: string): string {
  return `${clusterPrefix(cluster)}holds/`
}

export function holdKey(cluster: string, backupId: string): string {
  return `${holdPrefix(cluster)}${backupId}.hold`
}

export function condemnedPrefix(cluster: string): string {
  return `${clusterPrefix(cluster)}condemned/`
}

export function condemnedKey(cluster: string, id: string): string {
  return `${condemnedPrefix(cluster)}${id}.set`
}

/** The id in the key of a condemned set, or undefined for another key. */
export function parseCondemnedKey(key: string): string | undefined {
  return /\/condemned\/([0-9a-f]{16})\.set$/.exec(key)?.[1]
}

export function pinPrefix(cluster: string): string {
  return `${clusterPrefix(cluster)}pins/`
}

export function pinKey(cluster: string, backupId: string): string {
  return `${pinPrefix(cluster)}${backupId}.pin`
}

export function labelsPrefix(cluster: string): string {
  return `${clusterPrefix(cluster)}labels/`
}

export function labelsKey(cluster: string, backupId: string): string {
  return `${labelsPrefix(cluster)}${backupId}.labels`
}

/** The backup that a pin or labels are of, or undefined for another key. */
export function parseMarkKey(key: string): string | undefined {
  const id = /\/(?:pins\/([^/]+)\.pin|labels\/([^/]+)\.labels)$/.exec(key)
  const backupId = id?.[1] ?? id?.[2]
  return backupId !== undefined && isBackupId(backupId) ? backupId : undefined
}

/** Marks of dumps lie apart: what expires backups never sees them. */
export function dumpMarkPrefix(cluster: string): string {
  return `${clusterPrefix(cluster)}dump-marks/`
}

export function dumpPinKey(cluster: string, dumpId: string): string {
  return `${dumpMarkPrefix(cluster)}${dumpId}.pin`
}

export function dumpLabelsKey(cluster: string, dumpId: string): string {
  return `${dumpMarkPrefix(cluster)}${dumpId}.labels`
}

/** The dump that a pin or labels are of, or undefined for another key. */
export function parseDumpMarkKey(key: string): string | undefined {
  const id = /\/dump-marks\/([^/]+)\.(?:pin|labels)$/.exec(key)?.[1]
  return id !== undefined && isBackupId(id) ? id : undefined
}
