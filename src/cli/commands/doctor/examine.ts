/** Runs the checks of doctor, in the order in which they are shown. */
import { readDiskOutlook } from '../../../archive/disk-outlook.ts'
import { findLocalDirectory, requireLocalServer } from '../../../backup/server-facts.ts'
import { monotonicMs, now, sleep } from '../../../base/clock.ts'
import { Failure, isFailure } from '../../../base/failure.ts'
import type { ClusterConfiguration } from '../../../config/configuration.ts'
import { listStorageFiles } from '../../../config/resolve-storage.ts'
import { openRepositoryStorage } from '../../../config/unlock-storage.ts'
import { openServerSession, type ServerSession } from '../../../postgres/server-session.ts'
import { findLocalRoot } from '../../../storage/open-storage.ts'
import { openRefusingStorage } from '../../../storage/refusing-storage.ts'
import type { Storage } from '../../../storage/storage.ts'
import { formatArchiveCommand, TIDEMARK_PROGRAM } from '../../archive-command.ts'
import { planArchiving, readArchivingSettings } from '../../archiving-settings.ts'
import { type CommandContext, connectionUrl } from '../../command-context.ts'
import { type Protection, readProtection } from '../../protection.ts'
import { type HeldByRepository, judgeBehind } from '../status/judge-behind.ts'
import { findObstacle, ownerOf } from '../../server-access.ts'
import { type Check, failed, found, ok, skipped } from './check.ts'
import { checkRecordedGaps } from './check-recorded-gaps.ts'
import {
  checkArchivedWal,
  checkBackups,
  checkDevice,
  checkGaps,
  checkLastArchived,
  checkPacks,
  checkQuarantine,
  checkReachable,
  checkSpace,
  checkWritable,
} from './check-repository.ts'
import {
  checkArchiveCommand,
  checkArchiveMode,
  checkArchiver,
  checkChecksums,
  checkClock,
  checkDurability,
  checkPendingRestart,
  checkWalDisk,
  checkWalLevel,
  failsNow,
  type Settings,
} from './check-server.ts'
import { checkStreaming } from './check-streaming.ts'
import { proveArchiving } from './prove-archiving.ts'
import { compareClocks, measureCluster, measureWal, readArchiverState } from './read-server.ts'

export interface Examination {
  readonly context: CommandContext
  readonly cluster: ClusterConfiguration
  readonly storages: readonly Storage[]
  /** Undefined: the server does not answer, and `serverFailure` says why. */
  readonly session: ServerSession | undefined
  readonly serverFailure: Failure | undefined
  /** Where the server's files are, when they are on this machine. */
  readonly dataDirectory: string | undefined
}

export async function openExamination(
  context: CommandContext,
  cluster: ClusterConfiguration,
): Promise<Examination> {
  const storages = await openStorages(context, cluster)
  try {
    const session = await openServerSession({
      connection: connectionUrl(context, cluster),
      applicationName: 'tidemark doctor',
    })
    const dataDirectory = await findLocalDirectory(session)
    return { context, cluster, storages, session, serverFailure: undefined, dataDirectory }
  } catch (error) {
    if (!(error instanceof Failure)) throw error
    return {
      context,
      cluster,
      storages,
      session: undefined,
      serverFailure: error,
      dataDirectory: undefined,
    }
  }
}

/** In the order of the configuration. One that cannot be unlocked is told by its check. */
export async function openStorages(
  { env }: CommandContext,
  { repositories }: ClusterConfiguration,
): Promise<Storage[]> {
  return await Promise.all(
    repositories.map(async (repository) => {
      try {
        return await openRepositoryStorage(repository, env)
      } catch (error) {
        if (!(error instanceof Failure) || repository.encryption === undefined) throw error
        return openRefusingStorage(repository.url, error)
      }
    }),
  )
}

/** `show` gets each check as soon as it is known. */
export async function examine(
  examination: Examination,
  withProof: boolean,
  show: (check: Check) => void,
): Promise<Check[]> {
  const checks: Check[] = []
  const add = (check: Check): void => {
    checks.push(check)
    show(check)
  }
  const { session } = examination
  for (const check of await checkServer(examination)) add(check)
  for (const storage of examination.storages) {
    for (const check of await checkRepository(examination, storage)) add(check)
  }
  for (const check of await compareRepositories(examination)) add(check)
  if (session === undefined) return checks
  const reachable = checks.every(({ code, result }) => code !== 'TM1710' || result === 'ok')
  const archives = checks.every(
    ({ code, result }) => !ARCHIVING_CODES.has(code) || result !== 'problem',
  )
  const proof = await prove(examination, withProof, reachable && archives)
  // The archiver works in order: when the proof came through, older failures are over.
  const state = await readStateAfter(proof, session, examination.dataDirectory)
  const { at } = (await session.query('SELECT clock_timestamp() AS at'))[0] ?? {}
  const serverNow = at instanceof Date ? at : now()
  if (examination.cluster.walSource === 'archive_command') add(checkArchiver(state, serverNow))
  const { dataDirectory } = examination
  const disk = dataDirectory === undefined ? undefined : await readDiskOutlook(dataDirectory)
  const isStuck =
    examination.cluster.walSource === 'stream'
      ? checks.some(({ code, result }) => code === 'TM1431' && result === 'problem')
      : failsNow(state)
  if (disk !== undefined) add(checkWalDisk(disk, isStuck))
  add(proof)
  return checks
}

/** Does one lack what another has? One that cannot be read is told by its own checks. */
async function compareRepositories({ cluster, storages }: Examination): Promise<Check[]> {
  if (storages.length < 2) return []
  const held: HeldByRepository[] = []
  for (const [number, storage] of storages.entries()) {
    try {
      const { list, servers } = await readProtection(storage, cluster.name)
      const archives = servers.map(({ archive }) => archive)
      const name = cluster.repositories[number]?.name ?? storage.url
      held.push({ name, backups: list.backups, archives })
    } catch (error) {
      if (!(error instanceof Failure)) throw error
    }
  }
  const behind = judgeBehind(cluster.name, held)
  if (behind.length > 0 || held.length < storages.length) return behind
  return [ok('TM1320', 'repositories', 'none lacks what another one has')]
}

const ARCHIVING_CODES: ReadonlySet<string> = new Set([
  'TM1703',
  'TM1704',
  'TM1705',
  'TM1430',
  'TM1431',
])

async function checkServer(examination: Examination): Promise<Check[]> {
  const { session, serverFailure, dataDirectory } = examination
  if (session === undefined) {
    return serverFailure === undefined ? [] : [failed('TM1701', 'server', serverFailure)]
  }
  const { facts } = session
  const settings = await session.readSettings()
  const clocks = await compareClocks(session)
  const role = facts.isInRecovery ? ', a standby' : ''
  return [
    ok('TM1701', 'server', `PostgreSQL ${facts.versionText} at ${session.address}${role}`),
    await checkFiles(session, dataDirectory),
    checkWalLevel(settings),
    ...(await checkWalSource(examination, settings)),
    checkDurability(settings),
    checkChecksums(settings),
    checkPendingRestart(settings),
    checkClock(clocks.offsetMs, clocks.roundTripMs),
    checkPermissions(examination),
  ]
}

/** Whether WAL comes into the archive, by the way that the configuration names. */
async function checkWalSource(
  { session, context, cluster }: Examination,
  settings: Settings,
): Promise<Check[]> {
  if (session === undefined) return []
  if (cluster.walSource === 'stream') {
    const connection = connectionUrl(context, cluster)
    return await checkStreaming({ session, connection, stream: cluster.walStream, settings })
  }
  const plan = planArchiving(
    await readArchivingSettings(session),
    formatArchiveCommand({
      program: TIDEMARK_PROGRAM,
      configuration: context.configuration().path,
      cluster: cluster.name,
    }),
  )
  return [
    checkArchiveMode(settings, session.facts.isInRecovery),
    checkArchiveCommand(
      settings,
      plan.find(({ name }) => name === 'archive_command'),
    ),
  ]
}

async function checkFiles(
  session: ServerSession,
  dataDirectory: string | undefined,
): Promise<Check> {
  const name = 'data directory'
  if (dataDirectory !== undefined) return ok('TM1702', name, `${dataDirectory} is the server's`)
  const directory = session.facts.dataDirectory
  if (directory === undefined) {
    const detail = 'the role may not see where it is'
    return found(
      'problem',
      'TM1702',
      name,
      detail,
      `GRANT pg_read_all_settings TO ${session.facts.user}`,
    )
  }
  try {
    await requireLocalServer(session, directory)
    return ok('TM1702', name, directory)
  } catch (error) {
    if (error instanceof Failure) return failed('TM1702', name, error)
    throw error
  }
}

/** archive_command runs as the owner of the data directory, not as who runs doctor. */
function checkPermissions(examination: Examination): Check {
  const { context, cluster, dataDirectory } = examination
  const name = 'permissions'
  if (dataDirectory === undefined) return skipped('TM1715', name, 'the data directory is not here')
  const owner = ownerOf(dataDirectory)
  const roots = cluster.repositories.flatMap(({ url }) => findLocalRoot(url) ?? [])
  const secrets = cluster.repositories.flatMap(listStorageFiles)
  const closed = [
    findObstacle(TIDEMARK_PROGRAM, owner, 'read'),
    findObstacle(context.configuration().path, owner, 'read'),
    ...roots.map((root) => findObstacle(root, owner, 'write')),
    ...secrets.map((path) => findObstacle(path, owner, 'read')),
  ].find((path) => path !== undefined)
  if (closed === undefined) {
    return ok('TM1715', name, `the server's user (uid ${owner.uid}) reaches all it needs`)
  }
  const detail = `the server's user (uid ${owner.uid}) has no access to ${closed}`
  const { uid, gid } = owner
  const fix = `let that user read it (a repository: write to it too): chown ${uid}:${gid} ${closed}`
  return found('problem', 'TM1715', name, detail, fix)
}

async function checkRepository(examination: Examination, storage: Storage): Promise<Check[]> {
  const { context, cluster, session, dataDirectory } = examination
  const facts = session?.facts
  // Before the listing: what is archived while we look is no hole.
  const archiver = session === undefined ? undefined : await readArchiverState(session, undefined)
  const id = facts === undefined ? undefined : String(facts.systemIdentifier)
  const reachable = await checkReachable(storage, cluster.name, id)
  if (reachable.result === 'problem') return [reachable]
  const writable = await checkWritable(storage, cluster.name)
  const protection = await tryReadProtection(storage, cluster.name)
  if (protection instanceof Failure)
    return [reachable, writable, failed('TM1717', 'backups', protection)]
  const server =
    protection.servers.find((one) => one.systemIdentifier === id) ?? protection.servers.at(-1)
  const newestBackup = protection.list.backups.findLast(
    (one) => one.systemIdentifier === server?.systemIdentifier,
  )
  const space = checkSpace({
    freeBytes: await storage.freeBytes(),
    clusterBytes: session === undefined ? undefined : await measureCluster(session),
    walBytes: dataDirectory === undefined ? undefined : measureWal(dataDirectory),
    walSegmentSizeBytes: facts?.walSegmentSizeBytes ?? 16 * 1024 * 1024,
    hasBackup: protection.list.backups.length > 0,
  })
  return [
    reachable,
    writable,
    space,
    checkDevice(storage.url, dataDirectory),
    checkBackups(protection),
    await checkPacks(storage, newestBackup),
    checkLastArchived(server, archiver?.lastArchivedWal, newestBackup),
    checkGaps(server),
    checkRecordedGaps(server, protection.list.backups),
    await checkArchivedWal(storage, cluster.name, server, protection, context.signal),
    checkQuarantine(server),
  ]
}

async function tryReadProtection(storage: Storage, cluster: string): Promise<Protection | Failure> {
  try {
    return await readProtection(storage, cluster)
  } catch (error) {
    if (isFailure(error)) return error
    throw error
  }
}

const ARCHIVER_MS = 5000
const LOOK_MS = 50

/** What arrived is in the repository a moment before its archive_command ends. */
async function readStateAfter(
  proof: Check,
  session: ServerSession,
  dataDirectory: string | undefined,
): ReturnType<typeof readArchiverState> {
  const beganMs = monotonicMs()
  for (;;) {
    const state = await readArchiverState(session, dataDirectory)
    const isOver = proof.result !== 'ok' || !failsNow(state)
    if (isOver || monotonicMs() - beganMs > ARCHIVER_MS) return state
    await sleep(LOOK_MS)
  }
}

async function prove(examination: Examination, wanted: boolean, possible: boolean): Promise<Check> {
  const { session, storages, cluster, context } = examination
  if (session === undefined || !wanted) return skipped('TM1719', 'proof', 'left out (--no-proof)')
  if (session.facts.isInRecovery) {
    return skipped(
      'TM1719',
      'proof',
      'a standby cannot finish a segment; run doctor on its primary',
    )
  }
  if (!possible) return skipped('TM1719', 'proof', 'the problems above come first')
  context.progress.phase('waiting for a WAL segment to arrive')
  const check = await proveArchiving({
    session,
    storages,
    cluster: cluster.name,
    systemIdentifier: String(session.facts.systemIdentifier),
    walSource: cluster.walSource,
    signal: context.signal,
  })
  context.progress.end()
  return check
}
