/**
 * The demo's data: the bank of pgbench (TPC-B) and a table of customers, and the load: many
 * small transfers.
 *
 * Invariant of the bank: every transaction adds one amount to an account, a teller and a
 * branch and notes it in the history, so the four sums are equal at every moment.
 */
import type pg from 'pg'
import { sleep } from '../../base/clock.ts'

const BRANCHES = 4
const TELLERS_PER_BRANCH = 10
const ACCOUNTS_PER_BRANCH = 100_000
export const CUSTOMERS = 50_000
export const ACCOUNTS = BRANCHES * ACCOUNTS_PER_BRANCH
export const CLIENTS = 4

/** Most money moves between few accounts; the others are what an incremental one spares. */
const ACTIVE_ACCOUNTS = ACCOUNTS / 20

/** Lets the backup have a core on a small machine. */
const PAUSE_MS = 2

/** Names as in pgbench; texts that compress about as well as real ones do. */
export const CREATE_BANK = `
  CREATE TABLE pgbench_branches (bid int PRIMARY KEY, bbalance bigint NOT NULL, filler text);
  CREATE TABLE pgbench_tellers
    (tid int PRIMARY KEY, bid int, tbalance bigint NOT NULL, filler text);
  CREATE TABLE pgbench_accounts
    (aid int PRIMARY KEY, bid int, abalance bigint NOT NULL, filler text);
  CREATE TABLE pgbench_history
    (tid int, bid int, aid int, delta bigint NOT NULL, mtime timestamptz NOT NULL);
  INSERT INTO pgbench_branches SELECT n, 0, '' FROM generate_series(1, ${BRANCHES}) n;
  INSERT INTO pgbench_tellers SELECT n, (n - 1) / ${TELLERS_PER_BRANCH} + 1, 0, ''
    FROM generate_series(1, ${BRANCHES * TELLERS_PER_BRANCH}) n;
  INSERT INTO pgbench_accounts SELECT n, (n - 1) / ${ACCOUNTS_PER_BRANCH} + 1, 0, md5(n::text)
    FROM generate_series(1, ${ACCOUNTS}) n;
  CREATE TABLE customers (id int PRIMARY KEY, name text NOT NULL, address text NOT NULL);
  INSERT INTO customers SELECT n, 'customer ' || n, md5(n::text) || md5((-n)::text)
    FROM generate_series(1, ${CUSTOMERS}) n;`

export interface Balance {
  readonly branches: string
  readonly tellers: string
  readonly accounts: string
  readonly history: string
  readonly transactions: number
  /** Commit-near time of the newest transfer. */
  readonly newest: Date
}

export async function readBalance(client: pg.ClientBase): Promise<Balance> {
  const { rows } = await client.query<Balance>(
    `SELECT (SELECT sum(bbalance) FROM pgbench_branches)::text AS branches,
            (SELECT sum(tbalance) FROM pgbench_tellers)::text AS tellers,
            (SELECT sum(abalance) FROM pgbench_accounts)::text AS accounts,
            (SELECT coalesce(sum(delta), 0) FROM pgbench_history)::text AS history,
            (SELECT count(*) FROM pgbench_history)::int AS transactions,
            (SELECT coalesce(max(mtime), now()) FROM pgbench_history) AS newest`,
  )
  return rows[0] as Balance
}

export function isBalanced({ branches, tellers, accounts, history }: Balance): boolean {
  return branches === tellers && tellers === accounts && accounts === history
}

export interface CustomersSeen {
  readonly count: number
  readonly checksum: string
}

/** A count, and a checksum over every row in order; `absent` where the table is not there. */
export async function readCustomers(client: pg.ClientBase): Promise<CustomersSeen> {
  const found = await client.query<{ name: string | null }>(
    `SELECT to_regclass('customers')::text AS name`,
  )
  if (found.rows[0]?.name == null) return { count: 0, checksum: 'absent' }
  const { rows } = await client.query<CustomersSeen>(
    `SELECT count(*)::int AS count,
            md5(string_agg(md5(customers::text), '' ORDER BY id)) AS checksum FROM customers`,
  )
  return rows[0] as CustomersSeen
}

export interface Load {
  /** Transfers whose commit was acknowledged. */
  committed(): number
  /** Ends the load; rejects with what broke it. */
  stop(): Promise<void>
}

export async function startLoad(connect: () => Promise<pg.Client>): Promise<Load> {
  const state = { running: true, committed: 0 }
  const clients: pg.Client[] = []
  for (let number = 0; number < CLIENTS; number += 1) clients.push(await connect())
  const loops = clients.map(async (client, number) => await transferMoney(client, number, state))
  const ended = Promise.all(loops)
  ended.catch(() => undefined)
  return {
    committed: () => state.committed,
    async stop() {
      state.running = false
      await ended
    },
  }
}

async function transferMoney(
  client: pg.Client,
  number: number,
  state: { running: boolean; committed: number },
): Promise<void> {
  try {
    for (let round = number * 7919; state.running; round += 1) {
      await client.query(transfer(round))
      state.committed += 1
      await sleep(PAUSE_MS)
    }
  } finally {
    await client.end().catch(() => undefined)
  }
}

/** Without randomness: multiplication by primes spreads over the active accounts. */
function transfer(round: number): string {
  const aid = ((round * 48_271) % ACTIVE_ACCOUNTS) + 1
  const tid = ((round * 31) % (BRANCHES * TELLERS_PER_BRANCH)) + 1
  const bid = (round % BRANCHES) + 1
  const amount = ((round * 7877) % 10_001) - 5000
  return `BEGIN;
    UPDATE pgbench_accounts SET abalance = abalance + ${amount} WHERE aid = ${aid};
    UPDATE pgbench_tellers SET tbalance = tbalance + ${amount} WHERE tid = ${tid};
    UPDATE pgbench_branches SET bbalance = bbalance + ${amount} WHERE bid = ${bid};
    INSERT INTO pgbench_history VALUES (${tid}, ${bid}, ${aid}, ${amount}, clock_timestamp());
    COMMIT`
}
