/**
 * Which of the configured servers is received from: the one that accepts writes, on the highest
 * timeline (docs/design/receive.md, section 7).
 */
import { isFailure } from '../base/failure.ts'
import type { ConnectionDefaults } from '../postgres/connection-url.ts'
import type { Timeline } from '../postgres/lsn.ts'
import { openServerSession, type ServerSession } from '../postgres/server-session.ts'

export interface ChosenServer {
  readonly connection: string
  readonly session: ServerSession
}

interface Answer extends ChosenServer {
  /** Undefined: it is in recovery. */
  readonly writesOn: Timeline | undefined
}

/** Rejects as the first connection did, when no server is to be received from. */
export async function chooseServer(
  connections: readonly [string, ...string[]],
  defaults: ConnectionDefaults | undefined,
): Promise<ChosenServer> {
  const asked = await Promise.allSettled(connections.map(async (one) => await ask(one, defaults)))
  const answers = asked.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []))
  const chosen = pick(answers, connections[0])
  for (const { session } of answers) {
    if (session !== chosen?.session) await session.close()
  }
  const [first] = asked
  if (chosen !== undefined) return chosen
  if (first?.status === 'rejected') throw first.reason
  throw new Error('the first server answered and was not chosen')
}

/** Pure. A server in recovery is taken only when it is the cluster's own connection. */
function pick(answers: readonly Answer[], own: string): Answer | undefined {
  let best: Answer | undefined
  for (const answer of answers) {
    if (answer.writesOn !== undefined && answer.writesOn > (best?.writesOn ?? 0)) best = answer
  }
  return best ?? answers.find(({ connection }) => connection === own)
}

async function ask(connection: string, defaults: ConnectionDefaults | undefined): Promise<Answer> {
  const applicationName = 'tidemark wal receive'
  const session = await openServerSession({
    connection,
    applicationName,
    ...(defaults === undefined ? {} : { defaults }),
  })
  try {
    return { connection, session, writesOn: await findWriteTimeline(session) }
  } catch (error) {
    await session.close()
    throw error
  }
}

async function findWriteTimeline(session: ServerSession): Promise<Timeline | undefined> {
  if (session.facts.isInRecovery) return undefined
  try {
    // The control file tells the new timeline only after the first checkpoint on it.
    const [row] = await session.query<{ name: string }>(
      'SELECT pg_walfile_name(pg_current_wal_insert_lsn()) AS name',
      [],
      'say which timeline it writes on',
    )
    return Number.parseInt(row?.name.slice(0, 8) ?? '', 16)
  } catch (error) {
    if (!isFailure(error, 'TM1114')) throw error
    return undefined
  }
}
