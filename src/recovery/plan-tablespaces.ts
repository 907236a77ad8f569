/**
 * Decides where tablespaces go. Pure; whether the places are free is checked by
 * begin-restore.ts.
 */
import { isAbsolute, normalize } from 'node:path'
import { Failure } from '../base/failure.ts'
import type { BackupTablespace } from '../repository/backup-record.ts'

/** OLD=NEW: OLD is a location, an OID or a name. */
export interface TablespaceMapping {
  readonly from: string
  readonly to: string
}

export interface PlacedTablespace {
  readonly oid: number
  readonly name: string
  readonly original: string
  readonly location: string
  readonly isMapped: boolean
}

/** Reads `OLD=NEW`; the last `=` divides, since names may hold one and few paths do. TM1215. */
export function parseTablespaceMapping(text: string): TablespaceMapping {
  const divide = text.lastIndexOf('=')
  const [from, to] = [text.slice(0, divide), text.slice(divide + 1)]
  if (divide < 1 || to === '') {
    throw wrongMapping(text, 'it is not OLD=NEW', 'write --tablespace OLD=/new/location')
  }
  if (!isAbsolute(to)) {
    throw wrongMapping(text, `'${to}' is not an absolute path`, 'give the whole path')
  }
  return { from, to: normalize(to).replace(/(?!^)\/+$/, '') }
}

/** In-place tablespaces lie in the data directory and cannot be mapped. */
export function planTablespaces(
  tablespaces: readonly BackupTablespace[],
  mappings: readonly TablespaceMapping[],
): PlacedTablespace[] {
  const links = tablespaces.filter(({ kind }) => kind === 'link')
  for (const mapping of mappings) {
    const found = links.filter((tablespace) => isMeant(tablespace, mapping))
    if (found.length === 1) continue
    const known = links.map(({ name, oid, location }) => `${name} (${oid}, ${location})`)
    throw wrongMapping(
      `${mapping.from}=${mapping.to}`,
      found.length > 1
        ? `'${mapping.from}' means ${found.length} tablespaces`
        : `the backup has no tablespace '${mapping.from}'`,
      known.length === 0
        ? 'leave it out: the backup has no tablespaces outside the data directory'
        : `name one of ${known.join(', ')}`,
    )
  }
  const placed = links.map((tablespace) => {
    const mapping = mappings.find((one) => isMeant(tablespace, one))
    const { oid, name, location: original } = tablespace
    return { oid, name, original, location: mapping?.to ?? original, isMapped: !!mapping }
  })
  refuseTwice(placed)
  return placed
}

function isMeant(tablespace: BackupTablespace, { from }: TablespaceMapping): boolean {
  const { oid, name, location } = tablespace
  return from === location || from === String(oid) || from === name
}

function refuseTwice(placed: readonly PlacedTablespace[]): void {
  for (const [at, one] of placed.entries()) {
    const other = placed.slice(0, at).find(({ location }) => location === one.location)
    if (other === undefined) continue
    throw wrongMapping(
      `${one.name}=${one.location}`,
      `the tablespace ${other.name} goes there too`,
      'give each tablespace a directory of its own',
    )
  }
}

function wrongMapping(text: string, because: string, fix: string): Failure {
  return new Failure('TM1215', { message: `--tablespace ${text} is not usable`, because, fix })
}
