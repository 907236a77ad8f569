/**
 * The names of relations as of the backup: (tablespace, database, file node) -> name. The
 * databases are asked, a few at once, while files are copied. Names are a help for
 * people and for extraction, never needed to restore: a database that cannot be asked in
 * time is left out, and its relations go by number.
 */
import { sleep } from '../base/clock.ts'
import { isFailure } from '../base/failure.ts'
import { withDatabase } from '../postgres/connection-url.ts'
import { openServerSession, type ServerSession } from '../postgres/server-session.ts'

export interface RelationNames {
  /** The JSON of DatabaseNames[]: as objects, the names of a million relations are large. */
  readonly raw: Buffer
  /** Names of databases that could not be asked, or not in time. */
  readonly unknown: readonly string[]
}

const PORTION_ROWS = 10_000

/** How long names are waited for once the files are copied. */
const PATIENCE_MS = 20_000

/** Asks while files are copied, and gives up some time after. */
export class NameReader {
  readonly #giveUp = new AbortController()
  readonly #names: Promise<RelationNames>

  /** `portionRows`: so many names are objects at once. */
  constructor(session: ServerSession, connection: string, portionRows = PORTION_ROWS) {
    const { signal } = this.#giveUp
    this.#names = readRelationNames(session, { connection, portionRows }, signal)
    // What became of it is asked in read(), if ever.
    this.#names.catch(() => undefined)
  }

  /** The files are copied: the names may take only so much longer. */
  limit(): void {
    const { signal } = this.#giveUp
    sleep(PATIENCE_MS, signal).then(
      () => this.giveUp(),
      () => undefined,
    )
  }

  giveUp(): void {
    this.#giveUp.abort()
  }

  async read(): Promise<RelationNames> {
    return await this.#names
  }
}

/**
 * So many databases are asked at once: a session is a dozen short waits, and of a backup in which
 * little has changed they were a sixth.
 */
const ASKED_AT_ONCE = 3

/** Never rejects for what a single database does; `giveUp` ends the asking early. */
async function readRelationNames(
  session: ServerSession,
  source: NameSource,
  giveUp: AbortSignal,
): Promise<RelationNames> {
  const rows = await session.query(
    'SELECT oid::int8::text AS oid, datname AS name FROM pg_database WHERE datallowconn ORDER BY oid',
  )
  const databases = rows.map((row) => ({ oid: Number(row['oid']), name: String(row['name']) }))
  const known = new Map<string, readonly Buffer[]>()
  const refused: string[] = []
  const ask = async (waiting: Iterable<string>): Promise<void> => {
    for (const name of waiting) {
      if (giveUp.aborted) return
      const relations = await orGiveUp(readOneDatabase(source, name), giveUp)
      if (relations === 'refused') refused.push(name)
      else if (relations !== undefined) known.set(name, relations)
    }
  }
  const all = databases.map(({ name }) => name).values()
  await Promise.all(Array.from({ length: ASKED_AT_ONCE }, async () => await ask(all)))
  // The role, or the server, may have room for one more connection only.
  await ask(refused.splice(0))
  const unknown = databases.map(({ name }) => name).filter((name) => !known.has(name))
  const encoded = databases.flatMap(({ oid, name }) => {
    const relations = known.get(name)
    return relations === undefined ? [] : [{ oid, name, relations }]
  })
  return { raw: encodeDatabases(encoded), unknown }
}

/** What comes too late is let go: its session ends by its own time limits. */
async function orGiveUp<T>(work: Promise<T>, giveUp: AbortSignal): Promise<T | undefined> {
  let stopWaiting = (): void => {}
  const late = new Promise<undefined>((resolve) => {
    stopWaiting = () => resolve(undefined)
    giveUp.addEventListener('abort', stopWaiting, { once: true })
  })
  try {
    return await Promise.race([work, late])
  } finally {
    giveUp.removeEventListener('abort', stopWaiting)
  }
}

/** What JSON.stringify() gives of DatabaseNames[]. */
function encodeDatabases(databases: readonly EncodedDatabase[]): Buffer {
  const pieces = databases.flatMap(({ oid, name, relations }, number) => [
    Buffer.from(`${number === 0 ? '' : ','}{"oid":${oid},"name":${JSON.stringify(name)},`),
    Buffer.from('"relations":['),
    ...relations.flatMap((portion, at) => (at === 0 ? [portion] : [Buffer.from(','), portion])),
    Buffer.from(']}'),
  ])
  return Buffer.concat([Buffer.from('['), ...pieces, Buffer.from(']')])
}

interface EncodedDatabase {
  readonly oid: number
  readonly name: string
  readonly relations: readonly Buffer[]
}

interface NameSource {
  readonly connection: string
  readonly portionRows: number
}

/** Portions of the JSON of DatabaseNames.relations, without its brackets. */
async function readOneDatabase(
  { connection, portionRows }: NameSource,
  database: string,
): Promise<readonly Buffer[] | 'refused' | undefined> {
  let isOpen = false
  try {
    const session = await openServerSession({
      connection: withDatabase(connection, database),
      applicationName: 'tidemark names',
      forceVersion: true,
    })
    isOpen = true
    try {
      if (session.facts.database !== database) return undefined
      await session.query(LIMITS)
      return await readPortions(session, portionRows)
    } finally {
      await session.close()
    }
  } catch (error) {
    if (isFailure(error)) return isOpen ? undefined : 'refused'
    throw error
  }
}

/** A session that ends takes its cursor along. */
async function readPortions(session: ServerSession, rowsAtOnce: number): Promise<Buffer[]> {
  await session.query('BEGIN')
  await session.query(`DECLARE names NO SCROLL CURSOR FOR ${RELATIONS}`)
  const portions: Buffer[] = []
  for (;;) {
    const rows = await session.query(`FETCH ${rowsAtOnce} FROM names`)
    if (rows.length > 0) {
      portions.push(Buffer.from(rows.map((row) => JSON.stringify(toRelation(row))).join(',')))
    }
    if (rows.length < rowsAtOnce) return portions
  }
}

/** VACUUM FULL of a catalogue holds a lock that must not hold up the backup. */
const LIMITS = `
  SELECT set_config('lock_timeout', '2s', false), set_config('statement_timeout', '15s', false)`

/** pg_relation_filenode() resolves mapped relations; those without storage have none. */
const RELATIONS = `
  SELECT pg_relation_filenode(c.oid)::int8::text AS filenode, c.reltablespace::int8::text AS space,
         n.nspname AS schema, c.relname AS name, c.relkind::text AS kind
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
   WHERE pg_relation_filenode(c.oid) IS NOT NULL
   ORDER BY pg_relation_filenode(c.oid), c.oid`

function toRelation(row: Record<string, unknown>) {
  const { filenode, space, schema, name, kind } = row
  const parts = [String(schema), String(name), String(kind)] as const
  return [Number(filenode), Number(space), ...parts] as const
}
