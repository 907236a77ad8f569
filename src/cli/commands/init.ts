/**
 * `init`: from a connection and a URL to a configuration, a repository that knows the
 * server, and the statements that make it archive.
 *
 * Invariant: the same facts again change nothing; another server under a name that is
 * taken is refused before anything is written.
 */
import { accessSync, constants, existsSync, readdirSync } from 'node:fs'
import { chown } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import { readServerFacts, requireLocalServer, type ServerFacts } from '../../backup/server-facts.ts'
import { now } from '../../base/clock.ts'
import { Failure, isFailure } from '../../base/failure.ts'
import { makeDirectories } from '../../base/make-directories.ts'
import { applyEnvironment } from '../../config/apply-environment.ts'
import { findConfigurationPath } from '../../config/find-configuration.ts'
import { parseConfiguration } from '../../config/parse-configuration.ts'
import { listStorageFiles, resolveStorage } from '../../config/resolve-storage.ts'
import {
  planConfiguration,
  readIfThere,
  writeConfiguration,
} from '../../config/write-configuration.ts'
import type { ControlFile } from '../../postgres/control-file.ts'
import { ensureSlot } from '../../postgres/replication-slot.ts'
import { openServerSession, type ServerSession } from '../../postgres/server-session.ts'
import { isClusterName, REPOSITORY_KEY } from '../../repository/keys.ts'
import type { KeySecret } from '../../repository/key-slots.ts'
import { createRepository } from '../../repository/repository.ts'
import { ensureSystemIdentity, listSystemIdentities } from '../../repository/system-identity.ts'
import {
  assertStorageUrl,
  findLocalRoot,
  openStorage,
  type StorageSpecification,
} from '../../storage/open-storage.ts'
import { probeConditionalWrites } from '../../storage/probe-conditional-writes.ts'
import type { Storage } from '../../storage/storage.ts'
import { formatArchiveCommand, quoteWord, TIDEMARK_PROGRAM } from '../archive-command.ts'
import {
  executeSettings,
  listPendingRestarts,
  planArchiving,
  readArchivingSettings,
} from '../archiving-settings.ts'
import type { CommandContext } from '../command-context.ts'
import { findSecret, openWithFirstKey } from '../create-repository.ts'
import { areOnOneDevice, findObstacle, type Owner, ownerOf } from '../server-access.ts'
import { type InitAnswers, type InitOptions, settleAnswers } from './init/ask.ts'
import { type InitReport, printReport } from './init/report.ts'

export async function runInit(context: CommandContext, options: InitOptions): Promise<number> {
  const answers = await settleAnswers(context, options)
  requireClusterName(answers.name)
  assertStorageUrl(answers.repository)
  const session = await openServerSession({
    connection: applyEnvironment(answers.connection, context.env),
    applicationName: 'tidemark init',
  })
  try {
    const report = await introduce(context, session, answers)
    if (context.json) context.terminal.printJson(report)
    else printReport(context.terminal, report)
    return 0
  } finally {
    await session.close()
  }
}

async function introduce(
  context: CommandContext,
  session: ServerSession,
  answers: InitAnswers,
): Promise<InitReport> {
  const { version, versionText } = session.facts
  const facts = await readServerFacts(session)
  const control = await requireLocalServer(session, facts.dataDirectory)
  const owner = ownerOf(facts.dataDirectory)
  const path = findConfigurationPath(context.configOption, context.env) ?? resolve('tidemark.yaml')
  const existing = readIfThere(path)
  const root = findLocalRoot(answers.repository)
  const url = root === undefined ? answers.repository : `file://${root}`
  const change = planConfiguration(path, existing, {
    cluster: answers.name,
    connection: answers.connection,
    repositoryUrl: url,
    ...(answers.s3 === undefined ? {} : { s3: answers.s3 }),
    ...(answers.encryption === undefined ? {} : { encryption: answers.encryption }),
  })
  const place = { ...resolveStorage(change.configuration, context.env), owner }
  const secret = await findSecret(change.configuration, context.env)
  const repositoryExisted = await makeRepository({ place, secret }, answers.name, {
    systemIdentifier: String(control.systemIdentifier),
    major: version.major,
    walSegmentSizeBytes: control.walSegmentSizeBytes,
    createdAt: now().toISOString(),
  })
  if (change.changed) writeConfiguration(path, change.text, owner)
  const archiveCommand = formatArchiveCommand({
    program: TIDEMARK_PROGRAM,
    configuration: path,
    cluster: answers.name,
  })
  const slot = findSlotName(path, change.text, answers.name)
  const setUp = await setUpArchiving(session, archiveCommand, answers.configure, slot)
  return {
    cluster: answers.name,
    systemIdentifier: String(control.systemIdentifier),
    serverVersion: versionText,
    dataDirectory: facts.dataDirectory,
    walSegmentSizeBytes: control.walSegmentSizeBytes,
    dataChecksums: control.dataChecksumVersion !== 0,
    configuration: {
      path,
      outcome: change.changed ? (existing === undefined ? 'created' : 'changed') : 'unchanged',
    },
    repository: {
      name: change.repository,
      url,
      outcome: repositoryExisted ? 'found' : 'created',
      encrypted: secret !== undefined,
    },
    archiveCommand,
    slot: slot ?? null,
    ...setUp,
    warnings: findWarnings(
      facts,
      control,
      root,
      [path, ...listStorageFiles(change.configuration)],
      owner,
    ),
  }
}

function requireClusterName(name: string): void {
  if (isClusterName(name)) return
  throw new Failure('TM1001', {
    message: `'${name}' is not a cluster name`,
    because: 'a name has 1 to 63 of a-z, 0-9, _ and -, and begins with a letter',
    fix: 'choose another one: --name main',
  })
}

interface WantedRepository {
  readonly place: StorageSpecification & { readonly owner: Owner }
  /** Of an encrypted one. */
  readonly secret: KeySecret | undefined
}

/** Gives whether the repository was there. Refuses before it creates. */
async function makeRepository(
  { place, secret }: WantedRepository,
  cluster: string,
  identity: Parameters<typeof ensureSystemIdentity>[2],
): Promise<boolean> {
  const { url, owner } = place
  const root = findLocalRoot(url)
  const raw = await openStorage(place)
  const existed =
    root === undefined
      ? (await raw.read(REPOSITORY_KEY)) !== undefined
      : existsSync(`${root}/${REPOSITORY_KEY}`)
  if (root !== undefined && !existed) await prepareRoot(root, owner)
  await createRepository(raw, now(), secret !== undefined)
  if (root === undefined) await requireConditionalWrites(raw, existed)
  const storage = await openWithFirstKey(place, raw, secret)
  const known = await listSystemIdentities(storage, cluster)
  const other = known.find(({ systemIdentifier }) => systemIdentifier !== identity.systemIdentifier)
  const same = known.some(({ systemIdentifier }) => systemIdentifier === identity.systemIdentifier)
  if (other !== undefined && !same) {
    throw new Failure('TM1007', {
      message: `${url} knows another server as '${cluster}'`,
      because: `that one is system ${other.systemIdentifier} (PostgreSQL ${other.major}), this one is ${identity.systemIdentifier} (PostgreSQL ${identity.major})`,
      fix: 'give this server a name of its own: tidemark init --name NAME',
      details: { url, cluster, systemIdentifier: identity.systemIdentifier },
    })
  }
  await ensureSystemIdentity(storage, cluster, identity)
  return existed
}

/** A store that ignores them must not be left behind as a repository. */
async function requireConditionalWrites(storage: Storage, existed: boolean): Promise<void> {
  try {
    await probeConditionalWrites(storage)
    await storage.locks?.prove()
  } catch (error) {
    const isUnfit = isFailure(error, 'TM1512') || isFailure(error, 'TM1514')
    if (!existed && isUnfit) await storage.remove(REPOSITORY_KEY)
    throw error
  }
}

/** archive_command runs as the owner of the data directory and must get through. */
async function prepareRoot(root: string, owner: Owner): Promise<void> {
  const isRoot = process.geteuid?.() === 0
  requireWritableParent(root)
  try {
    makeDirectories(dirname(root), 0o755)
    if (isRoot && existsSync(root) && readdirSync(root).length === 0) {
      await chown(root, owner.uid, owner.gid)
    }
  } catch {
    // The driver meets the same obstacle and names it.
  }
}

/** The usual obstacle is /var/lib, where only root may create: said with what root is to do. */
function requireWritableParent(root: string): void {
  if (existsSync(root)) return
  let parent = dirname(root)
  while (!existsSync(parent)) parent = dirname(parent)
  try {
    accessSync(parent, constants.W_OK | constants.X_OK)
  } catch (cause) {
    const uid = process.geteuid?.() ?? 0
    throw new Failure('TM1501', {
      message: `cannot create a repository in ${root}`,
      because: `uid ${uid} may not create directories in ${parent}`,
      fix: `have root make it once: install -d -o ${uid} -m 700 ${quoteWord(root)}
       or name a place that this user may write to`,
      details: { path: root },
      cause,
    })
  }
}

/** The receiver's slot, where the configuration says that WAL is streamed. */
function findSlotName(path: string, text: string, cluster: string): string | undefined {
  const found = parseConfiguration(path, text).clusters.get(cluster)
  return found?.walSource === 'stream' ? found.walStream.slot : undefined
}

/** `slot`: WAL is streamed, and kept from now on; archive_command is left as it is then. */
async function setUpArchiving(
  session: ServerSession,
  archiveCommand: string,
  configure: boolean,
  slot: string | undefined,
): Promise<Pick<InitReport, 'settings' | 'configured' | 'restartNeeded' | 'overridden'>> {
  const before = await readArchivingSettings(session)
  const settings = planArchiving(before, archiveCommand).filter(
    ({ name }) => slot === undefined || name === 'wal_level',
  )
  if (slot !== undefined && settings.length === 0) await ensureSlot(session, slot)
  const pending = listPendingRestarts(before)
  if (!configure) {
    const later = settings.filter(({ needsRestart }) => needsRestart).map(({ name }) => name)
    const restartNeeded = [...new Set([...pending, ...later])]
    return { settings, configured: false, restartNeeded, overridden: [] }
  }
  const { restartNeeded, overridden } = await executeSettings(session, settings)
  const all = [...new Set([...pending, ...restartNeeded])]
  return { settings, configured: true, restartNeeded: all, overridden }
}

function findWarnings(
  facts: ServerFacts,
  control: ControlFile,
  root: string | undefined,
  needed: readonly string[],
  owner: Owner,
): string[] {
  const warnings: string[] = []
  if (root !== undefined && areOnOneDevice(root, facts.dataDirectory)) {
    warnings.push(
      `the repository is on the disk of the data directory: when it fails, both are lost; add a second one elsewhere`,
    )
  }
  const closed = root === undefined ? undefined : findObstacle(root, owner, 'write')
  if (closed !== undefined) {
    warnings.push(
      `the server's user (uid ${owner.uid}) cannot write to ${closed}, so archive_command will fail: chown ${owner.uid}:${owner.gid} ${closed}`,
    )
  }
  const obstacles = needed.flatMap((path) => findObstacle(path, owner, 'read') ?? [])
  for (const unreadable of new Set(obstacles)) {
    warnings.push(
      `the server's user (uid ${owner.uid}) cannot read ${unreadable}, so archive_command lacks its configuration or a key: put it where that user can (tidemark --config /etc/tidemark/tidemark.yaml init …)`,
    )
  }
  const program = findObstacle(TIDEMARK_PROGRAM, owner, 'read')
  if (program !== undefined) {
    warnings.push(
      `the server's user (uid ${owner.uid}) cannot reach ${program}, so archive_command cannot start tidemark: install it where every user can read it`,
    )
  }
  if (control.dataChecksumVersion === 0) {
    warnings.push('data checksums are off: a page that the disk changed is not noticed')
  }
  return warnings
}
