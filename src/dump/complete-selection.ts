/**
 * Rows of a table that lie in others: partitions, and children of plain inheritance. Where
 * only the parent is selected, pg_dump passes over their rows without a word.
 *
 * Which tables a selection means is asked of pg_dump itself, in the snapshot of the dump: the
 * table of contents of a dump without rows. Which tables hold rows of these is asked of the
 * catalogue, in the same snapshot.
 */
import { type ArchiveEntry, ArchiveTocReader } from '../postgres/archive-toc.ts'
import type { Row } from '../postgres/server-session.ts'
import type { DumpContext } from './dump-context.ts'
import { type NamedDatabase, runPgDump } from './run-pg-dump.ts'
import { formatSelection } from './selection.ts'
import type { HeldSnapshot } from './snapshot.ts'

export interface ChildTable {
  readonly schema: string
  readonly name: string
}

/** Options to add to the selection of this database; notes tell of what they cannot add. */
export async function completeSelection(
  context: DumpContext,
  database: NamedDatabase,
  snapshot: HeldSnapshot,
): Promise<string[]> {
  const { schemas, tables, filters } = context.options.selection
  if (schemas.length + tables.length + filters.length === 0) return []
  const selected = await listSelectedTables(context, database, snapshot)
  const children = await findChildren(snapshot, selected)
  if (children.length === 0) return []
  const named = nameSome(children)
  if (tables.length > 0) {
    context.notes.push(
      `database ${database.name}: with the tables that --table names come those that hold rows ` +
        `of theirs (partitions, children), unless they are excluded: ${named}`,
    )
    return children.map((child) => formatTableOption(child, snapshot.facts.encoding))
  }
  context.notes.push(
    `database ${database.name}: not in the dump are tables that hold rows of selected ones ` +
      `(partitions, children): ${named}`,
  )
  return []
}

/** By their OIDs. */
async function listSelectedTables(
  context: DumpContext,
  database: NamedDatabase,
  snapshot: HeldSnapshot,
): Promise<number[]> {
  const { options, tools } = context
  const reader = new ArchiveTocReader({ format: 'custom' })
  const onlyNames = { schemaOnly: true, dataOnly: false, sections: [], create: false }
  await runPgDump(context, database, {
    snapshot,
    format: 'custom',
    args: formatSelection({ ...options.selection, ...onlyNames }, tools.major),
    onOutput: (bytes) => void reader.push(bytes),
  })
  return reader
    .finish()
    .entries.filter(isTable)
    .map(({ oid }) => oid)
}

function isTable({ kind }: ArchiveEntry): boolean {
  return kind === 'TABLE' || kind === 'FOREIGN TABLE'
}

/** Temporary tables of other sessions cannot be read. */
const CHILDREN = `
  WITH RECURSIVE below AS (
    SELECT inhrelid AS oid FROM pg_catalog.pg_inherits
     WHERE inhparent = ANY ($1::pg_catalog.oid[])
    UNION
    SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN below b ON i.inhparent = b.oid)
  SELECT n.nspname::text AS schema, c.relname::text AS name
    FROM below b JOIN pg_catalog.pg_class c ON c.oid = b.oid
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
   WHERE c.oid <> ALL ($1::pg_catalog.oid[]) AND c.relpersistence <> 't'
   ORDER BY n.nspname, c.relname`

async function findChildren(
  snapshot: HeldSnapshot,
  oids: readonly number[],
): Promise<ChildTable[]> {
  const list = `{${oids.join(',')}}`
  return await snapshot.query<ChildTable & Row>(CHILDREN, [list], 'list partitions')
}

/**
 * A pattern that fits this table. pg_dump sends it as it is, in the encoding of the database:
 * where that is not UTF-8, what is not ASCII is left open, and at worst more is dumped.
 */
export function formatTableOption({ schema, name }: ChildTable, encoding: string): string {
  const quote = (text: string): string => {
    const quoted = `"${text.replaceAll('"', '""')}"`
    return encoding === 'UTF8' ? quoted : quoted.replaceAll(/\P{ASCII}+/gu, '"*"')
  }
  return `--table=${quote(schema)}.${quote(name)}`
}

const NAMED = 5

function nameSome(children: readonly ChildTable[]): string {
  const names = children.slice(0, NAMED).map(({ schema, name }) => `${schema}.${name}`)
  const more = children.length - names.length
  return more === 0 ? names.join(', ') : `${names.join(', ')} and ${more} more`
}
