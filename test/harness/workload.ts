/**
 * The TPC-B tables and transactions of pgbench, with its invariant: every transaction adds
 * one delta to an account, a teller and a branch and records it in the history, so all
 * four sums are equal at every moment that PostgreSQL may recover to. A recovery that
 * loses or tears a transaction breaks it.
 *
 * History rows carry a client's own sequence number, so that a lost or doubled commit is
 * found as well: checkInvariant() demands numbers without holes, per client.
 */
import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type pg from 'pg'
import { findTool } from './postgres-binaries.ts'
import type { PostgresServer } from './postgres-server.ts'
import { startProgram } from './run-program.ts'

const ACCOUNTS_PER_BRANCH = 1000
const TELLERS_PER_BRANCH = 10

export interface BenchOptions {
  readonly database?: string
  readonly accountsPerBranch?: number
}

/** Creates the four tables with `scale` branches, 10 tellers and 1000 accounts in each. */
export async function createBench(
  server: PostgresServer,
  scale: number,
  options: BenchOptions = {},
): Promise<void> {
  const accounts = options.accountsPerBranch ?? ACCOUNTS_PER_BRANCH
  await server.sql(
    `CREATE TABLE pgbench_branches (bid int PRIMARY KEY, bbalance bigint, filler char(88))
       WITH (fillfactor = 100);
     CREATE TABLE pgbench_tellers (tid int PRIMARY KEY, bid int, tbalance bigint, filler char(84));
     CREATE TABLE pgbench_accounts (aid int PRIMARY KEY, bid int, abalance bigint, filler char(84));
     CREATE TABLE pgbench_history (tid int, bid int, aid int, delta int, mtime timestamptz,
       client int, sequence int, filler char(22));
     INSERT INTO pgbench_branches SELECT n, 0, '' FROM generate_series(1, ${scale}) AS n;
     INSERT INTO pgbench_tellers SELECT n, (n - 1) / ${TELLERS_PER_BRANCH} + 1, 0, ''
       FROM generate_series(1, ${scale * TELLERS_PER_BRANCH}) AS n;
     INSERT INTO pgbench_accounts SELECT n, (n - 1) / ${accounts} + 1, 0, ''
       FROM generate_series(1, ${scale * accounts}) AS n;`,
    [],
    options.database,
  )
}

export interface LoadOptions {
  readonly clients?: number
  readonly database?: string
}

export interface Load {
  /** Transactions whose commit was acknowledged up to now. */
  committed(): number
  /** Ends the load. Connections that broke meanwhile (a killed server) are no failure. */
  stop(): Promise<{ transactions: number }>
}

interface Bounds {
  readonly branches: number
  readonly tellers: number
  readonly accounts: number
}

let nextClient = 1

/** Runs transactions on every client until stopped or until its connection breaks. */
export async function startLoad(server: PostgresServer, options: LoadOptions = {}): Promise<Load> {
  const bounds = await readBounds(server, options.database)
  const state = { running: true, transactions: 0 }
  const clients = await Promise.all(
    Array.from({ length: options.clients ?? 2 }, () => server.connect(options.database)),
  )
  const loops = clients.map((client) => runClient(client, bounds, state))
  return {
    committed: () => state.transactions,
    async stop() {
      state.running = false
      await Promise.all(loops)
      return { transactions: state.transactions }
    },
  }
}

async function readBounds(server: PostgresServer, database?: string): Promise<Bounds> {
  const [bounds] = await server.sql<Record<keyof Bounds, number>>(
    `SELECT (SELECT count(*) FROM pgbench_branches)::int AS branches,
            (SELECT count(*) FROM pgbench_tellers)::int AS tellers,
            (SELECT count(*) FROM pgbench_accounts)::int AS accounts`,
    [],
    database,
  )
  assert.ok(bounds, 'a SELECT without FROM gives a row')
  return bounds
}

async function runClient(
  client: pg.Client,
  bounds: Bounds,
  state: { running: boolean; transactions: number },
): Promise<void> {
  const number = nextClient++ + process.pid * 1000
  try {
    for (let sequence = 1; state.running; sequence++) {
      await client.query(transaction(bounds, number, sequence))
      state.transactions++
    }
  } catch (error) {
    // SQLSTATE class 57 is the server's shutdown; no code is a broken connection.
    const code = (error as { code?: string }).code
    if (code !== undefined && !/^(57|ECONN|EPIPE)/.test(code)) throw error
  } finally {
    await client.end().catch(() => {})
  }
}

function transaction(bounds: Bounds, client: number, sequence: number): string {
  const pick = (count: number): number => 1 + Math.floor(Math.random() * count)
  const [aid, tid, bid] = [pick(bounds.accounts), pick(bounds.tellers), pick(bounds.branches)]
  const delta = pick(10_001) - 5_001
  return `BEGIN;
    UPDATE pgbench_accounts SET abalance = abalance + ${delta} WHERE aid = ${aid};
    UPDATE pgbench_tellers SET tbalance = tbalance + ${delta} WHERE tid = ${tid};
    UPDATE pgbench_branches SET bbalance = bbalance + ${delta} WHERE bid = ${bid};
    INSERT INTO pgbench_history (tid, bid, aid, delta, mtime, client, sequence)
      VALUES (${tid}, ${bid}, ${aid}, ${delta}, clock_timestamp(), ${client}, ${sequence});
    COMMIT;`
}

export interface Balance {
  readonly total: string
  /** Rows of the history: transactions committed up to this moment. */
  readonly transactions: number
}

/** Throws an assertion unless the four sums agree and no client's numbers have a hole. */
export async function checkInvariant(server: PostgresServer, database?: string): Promise<Balance> {
  const [row] = await server.sql<Record<string, string>>(
    `SELECT (SELECT coalesce(sum(bbalance), 0) FROM pgbench_branches)::text AS branches,
            (SELECT coalesce(sum(tbalance), 0) FROM pgbench_tellers)::text AS tellers,
            (SELECT coalesce(sum(abalance), 0) FROM pgbench_accounts)::text AS accounts,
            (SELECT coalesce(sum(delta), 0) FROM pgbench_history)::text AS history,
            (SELECT count(*) FROM pgbench_history)::text AS transactions`,
    [],
    database,
  )
  const { branches, tellers, accounts, history, transactions } = row ?? {}
  assert.deepEqual(
    { tellers, accounts, history },
    { tellers: branches, accounts: branches, history: branches },
    'sums of branches, tellers, accounts and history differ',
  )
  assert.deepEqual(await clientsWithHoles(server, database), [], 'a committed row is missing')
  return { total: branches ?? '0', transactions: Number(transactions) }
}

/** pgbench's own rows have no client number. */
async function clientsWithHoles(server: PostgresServer, database?: string): Promise<number[]> {
  const rows = await server.sql<{ client: number }>(
    `SELECT client FROM pgbench_history WHERE client IS NOT NULL
      GROUP BY client HAVING count(*) <> max(sequence) OR count(DISTINCT sequence) <> count(*)`,
    [],
    database,
  )
  return rows.map((row) => row.client)
}

/** The transaction of startLoad() in pgbench's language; its rows have no client number. */
const PGBENCH_SCRIPT = `\\set aid random(1, :accounts)
\\set tid random(1, :tellers)
\\set bid random(1, :branches)
\\set delta random(-5000, 5000)
BEGIN;
UPDATE pgbench_accounts SET abalance = abalance + :delta WHERE aid = :aid;
UPDATE pgbench_tellers SET tbalance = tbalance + :delta WHERE tid = :tid;
UPDATE pgbench_branches SET bbalance = bbalance + :delta WHERE bid = :bid;
INSERT INTO pgbench_history (tid, bid, aid, delta, mtime)
  VALUES (:tid, :bid, :aid, :delta, CURRENT_TIMESTAMP);
END;
`

/**
 * The same load by PostgreSQL's own pgbench, or undefined where the machine has none. For
 * tables of createBench().
 */
export async function startPgbench(
  server: PostgresServer,
  options: LoadOptions = {},
): Promise<{ stop(): Promise<void> } | undefined> {
  const path = findTool('pgbench', server.major)
  if (path === undefined) return undefined
  const script = join(server.socketDirectory, 'pgbench.sql')
  await writeFile(script, PGBENCH_SCRIPT)
  const args = ['-n', '-c', String(options.clients ?? 2), '-T', '3600', '-f', script]
  for (const [name, value] of Object.entries(await readBounds(server, options.database))) {
    args.push('-D', `${name}=${value}`)
  }
  const program = startProgram(path, [...args, options.database ?? 'postgres'], {
    runAs: server.runAs,
    env: {
      PGHOST: server.socketDirectory,
      PGPORT: String(server.port),
      PGUSER: server.user,
    },
  })
  return {
    async stop() {
      program.kill('SIGTERM')
      await program.done
    },
  }
}
