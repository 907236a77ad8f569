/**
 * What a dump by COPY is of: one table, or what a query gives.
 *
 * PostgreSQL: DoCopy() and BeginCopyTo() in commands/copy.c and copyto.c for what COPY refuses.
 * Of a table with children by inheritance its own rows are meant, as COPY and pg_dump mean it.
 */
import type { CopySession, ResultColumn, Row } from '../postgres/server-session.ts'
import type { DumpedCopy } from '../repository/dump-record.ts'
import { explainDescribeError, noRows } from './copy-failures.ts'
import { quoteName } from './sql-text.ts'

export interface CopySource {
  /** As SQL writes it; with a query: where its rows are loaded. */
  readonly table: string | undefined
  readonly query: string | undefined
  /** A condition for the rows of the table. */
  readonly where: string | undefined
  /** As SQL writes them; none: all that are not generated. */
  readonly columns: readonly string[]
}

/** A table as the server knows it. */
export interface FoundTable {
  readonly oid: string
  readonly schema: string
  readonly name: string
  /** `pg_class.relkind` */
  readonly kind: string
  readonly children: number
  readonly columns: readonly FoundColumn[]
}

export interface FoundColumn {
  readonly name: string
  readonly type: string
  readonly isGenerated: boolean
  readonly isRequired: boolean
}

export interface CopyPlan {
  /** For people: a table, or `the query`. */
  readonly what: string
  readonly table: FoundTable | undefined
  /** A SELECT: what it gives is what is dumped. */
  readonly select: string
  /** What stands behind COPY. */
  readonly copied: string
}

const KINDS: Readonly<Record<string, string>> = {
  S: 'a sequence',
  i: 'an index',
  I: 'an index',
  c: 'a composite type',
  t: 'a TOAST table',
}

export function formatTable({ schema, name }: { schema: string; name: string }): string {
  return `${quoteName(schema)}.${quoteName(name)}`
}

/** TM2080; names are looked up by the search_path of the role, from here on. */
export async function planCopy(session: CopySession, source: CopySource): Promise<CopyPlan> {
  const { query, columns, where } = source
  await usePath(session, 'DEFAULT')
  const table = source.table === undefined ? undefined : await requireTable(session, source.table)
  if (query !== undefined) {
    const select = `SELECT * FROM (\n${trimQuery(query)}\n) AS q`
    return { what: 'the query', table, select, copied: `(\n${trimQuery(query)}\n)` }
  }
  if (table === undefined) throw new Error('neither a table nor a query')
  const name = formatTable(table)
  const kind = KINDS[table.kind]
  if (kind !== undefined) {
    throw noRows(`${name} has no rows of its own`, `it is ${kind}`, 'name a table or a view')
  }
  const list = chooseColumns(table, columns).map(quoteName).join(', ')
  const only = table.kind === 'r' || table.kind === 'f' ? 'ONLY ' : ''
  const condition = where === undefined ? '' : ` WHERE (\n${where}\n)`
  const select = `SELECT ${list} FROM ${only}${name}${condition}`
  // COPY itself takes nothing but plain tables.
  const isPlain = table.kind === 'r' && where === undefined
  return { what: name, table, select, copied: isPlain ? `${name} (${list})` : `(\n${select}\n)` }
}

/** A semicolon at the end is a habit, and no part of it. */
function trimQuery(query: string): string {
  return query.replace(/[;\s]+$/, '')
}

async function requireTable(session: CopySession, text: string): Promise<FoundTable> {
  const table = await findTable(session, text)
  if (table !== undefined) return table
  throw noRows(
    `there is no table ${text} in database ${session.facts.database}`,
    'it was looked for as SQL would, by the search_path of the role',
    'write it as SQL does: schema.table, and double quotes around capitals',
  )
}

const TABLE = `
  SELECT c.oid::text AS oid, n.nspname::text AS schema, c.relname::text AS name,
         c.relkind::text AS kind,
         (SELECT count(*)::int FROM pg_catalog.pg_inherits i WHERE i.inhparent = c.oid) AS children
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
   WHERE c.oid = pg_catalog.to_regclass($1)`

/** Has a value of its own: a default, an identity, or what makes it up. */
const COLUMNS = `
  SELECT a.attname::text AS name,
         pg_catalog.format_type(a.atttypid, a.atttypmod) AS type,
         a.attgenerated <> '' AS "isGenerated",
         a.attnotnull AND NOT a.atthasdef AND a.attidentity = ''
           AND NOT EXISTS (SELECT FROM pg_catalog.pg_type t
                            WHERE t.oid = a.atttypid AND t.typdefault IS NOT NULL)
           AS "isRequired"
    FROM pg_catalog.pg_attribute a
   WHERE a.attrelid = $1::oid AND a.attnum > 0 AND NOT a.attisdropped
   ORDER BY a.attnum`

/** Undefined: there is none of that name. TM2080 for what is no name at all. */
export async function findTable(
  session: CopySession,
  text: string,
): Promise<FoundTable | undefined> {
  await usePath(session, 'DEFAULT')
  try {
    const [row] = await session.query<Row & FoundTable>(TABLE, [text], `look for ${text}`)
    if (row === undefined) return undefined
    await usePath(session, 'pg_catalog')
    const columns = await session.query<Row & FoundColumn>(COLUMNS, [row.oid], `describe ${text}`)
    const { oid, schema, name, kind, children } = row
    return { oid, schema, name, kind, children, columns }
  } catch (error) {
    throw explainDescribeError(error, text)
  } finally {
    if (session.lostBecause() === undefined)
      await usePath(session, 'DEFAULT').catch(() => undefined)
  }
}

/**
 * The role's own one, for names that the user writes; or none, so that types are written with
 * their schema, the same wherever they are.
 */
async function usePath(session: CopySession, path: 'DEFAULT' | 'pg_catalog'): Promise<void> {
  await session.query(`SET LOCAL search_path TO ${path}`)
}

function chooseColumns(table: FoundTable, wanted: readonly string[]): string[] {
  const usual = table.columns.filter(({ isGenerated }) => !isGenerated).map(({ name }) => name)
  const chosen = wanted.length === 0 ? usual : wanted.map((text) => chooseColumn(table, text))
  if (chosen.length > 0) return chosen
  throw noRows(
    `${formatTable(table)} has no columns to dump`,
    'COPY writes columns, and leaves out those that are generated',
    'use --format custom, which keeps the table itself',
  )
}

function chooseColumn(table: FoundTable, text: string): string {
  const name = foldName(text)
  const column = table.columns.find((one) => one.name === name)
  if (column?.isGenerated === false) return name
  const there = table.columns.map((one) => quoteName(one.name)).join(', ')
  throw column === undefined
    ? noRows(`${formatTable(table)} has no column ${text}`, `it has ${there}`, 'name one of these')
    : noRows(
        `column ${text} of ${formatTable(table)} is generated`,
        'the server computes it and takes no values for it',
        'leave it out, or dump what it gives with --query',
      )
}

/** As SQL folds it. */
function foldName(text: string): string {
  const trimmed = text.trim()
  if (/^".*"$/s.test(trimmed)) return trimmed.slice(1, -1).replaceAll('""', '"')
  return trimmed.replaceAll(/[A-Z]+/g, (letters) => letters.toLowerCase())
}

/** TM2080 where two have one name: nobody could say which is which. */
export async function describeColumns(
  session: CopySession,
  { select, what }: CopyPlan,
): Promise<DumpedCopy['columns']> {
  const found = await describeSelect(session, `${select}\nLIMIT 0`, what)
  await usePath(session, 'pg_catalog')
  const types = await session.query<Row & { type: string }>(
    `SELECT pg_catalog.format_type(w.oid, w.modifier) AS type
       FROM ROWS FROM (pg_catalog.unnest($1::oid[]), pg_catalog.unnest($2::int[]))
              WITH ORDINALITY AS w (oid, modifier, place) ORDER BY place`,
    [found.map(({ typeOid }) => typeOid), found.map(({ typeModifier }) => typeModifier)],
    'name the types of columns',
  )
  await usePath(session, 'DEFAULT')
  const columns = found.map(({ name }, place) => ({ name, type: types[place]?.type ?? '' }))
  const names = columns.map(({ name }) => name)
  const twice = names.find((name, place) => names.indexOf(name) !== place)
  if (twice !== undefined) {
    throw noRows(
      `${what} gives two columns ${quoteName(twice)}`,
      'they are told apart by their names when they are loaded',
      'give them names of their own (AS)',
    )
  }
  if (columns.length > 0) return columns
  throw noRows(`${what} gives no columns`, undefined, 'select at least one')
}

async function describeSelect(
  session: CopySession,
  text: string,
  what: string,
): Promise<ResultColumn[]> {
  try {
    return await session.describe(text, `describe ${what}`)
  } catch (error) {
    throw explainDescribeError(error, what)
  }
}

/**
 * Tables and views that this transaction has locked by describing what is to be dumped: they
 * are what it reads.
 */
export async function listReadTables(session: CopySession): Promise<string[]> {
  const rows = await session.query<Row & { schema: string; name: string }>(
    `SELECT DISTINCT n.nspname::text AS schema, c.relname::text AS name
       FROM pg_catalog.pg_locks l
       JOIN pg_catalog.pg_class c ON c.oid = l.relation
       JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
       JOIN pg_catalog.pg_database d
         ON d.oid = l.database AND d.datname = pg_catalog.current_database()
      WHERE l.pid = pg_catalog.pg_backend_pid() AND c.relkind IN ('r', 'p', 'v')
        AND c.relpersistence <> 't'
        AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
        AND pg_catalog.has_table_privilege(c.oid, 'SELECT')
      ORDER BY 1, 2`,
    [],
    'say what the query reads',
  )
  return rows.map(formatTable)
}
