/**
 * `doctor --fix`: mends what can be mended without taking a decision that is not ours:
 * settings (ALTER SYSTEM, reload), a repository that is not there yet, an identity that is
 * missing, leftovers of dead writers. Says what it did, in sentences.
 */
import { existsSync } from 'node:fs'
import { now } from '../../../base/clock.ts'
import { Failure, isFailure } from '../../../base/failure.ts'
import type { RepositoryConfiguration } from '../../../config/configuration.ts'
import { resolveStorage } from '../../../config/resolve-storage.ts'
import { ensureSlot, findSlot } from '../../../postgres/replication-slot.ts'
import type { ServerSession } from '../../../postgres/server-session.ts'
import { createRepository, openRepository } from '../../../repository/repository.ts'
import { ensureSystemIdentity, listSystemIdentities } from '../../../repository/system-identity.ts'
import { findLocalRoot, openStorage } from '../../../storage/open-storage.ts'
import type { Storage } from '../../../storage/storage.ts'
import { formatArchiveCommand, TIDEMARK_PROGRAM } from '../../archive-command.ts'
import { executeSettings, planArchiving, readArchivingSettings } from '../../archiving-settings.ts'
import { formatCount } from '../../format-units.ts'
import { findSecret, openWithFirstKey } from '../../create-repository.ts'
import { type Owner, ownerOf } from '../../server-access.ts'
import type { Examination } from './examine.ts'

export async function mend(examination: Examination): Promise<string[]> {
  const done: string[] = []
  for (const [index, storage] of examination.storages.entries()) {
    const repository = examination.cluster.repositories[index]
    if (repository !== undefined) {
      done.push(...(await mendRepository(examination, repository, storage)))
    }
  }
  done.push(...(await mendSettings(examination)))
  return done
}

async function mendSettings({ session, context, cluster }: Examination): Promise<string[]> {
  if (session === undefined) return []
  if (cluster.walSource === 'stream') return await mendSlot(session, cluster.walStream.slot)
  const archiveCommand = formatArchiveCommand({
    program: TIDEMARK_PROGRAM,
    configuration: context.configuration().path,
    cluster: cluster.name,
  })
  const plan = planArchiving(await readArchivingSettings(session), archiveCommand)
  const { applied, restartNeeded } = await executeSettings(session, plan)
  const restart =
    restartNeeded.length === 0
      ? []
      : [`a restart of the server is needed: ${restartNeeded.join(', ')}`]
  const left = plan.flatMap(({ name, obstacle }) =>
    obstacle === undefined ? [] : [`not set: ${name}, because ${obstacle}`],
  )
  return [...applied.map(({ statement }) => `${statement};`), ...left, ...restart]
}

/** The receiver makes a lost one anew, with a gap record: that is not ours to hide. */
async function mendSlot(session: ServerSession, slot: string): Promise<string[]> {
  if ((await findSlot(session, slot)) !== undefined) return []
  await ensureSlot(session, slot)
  return [`created the replication slot ${slot}`]
}

async function mendRepository(
  examination: Examination,
  repository: RepositoryConfiguration,
  opened: Storage,
): Promise<string[]> {
  const done: string[] = []
  const { session, cluster, dataDirectory } = examination
  let storage = opened
  if (!(await isRepository(storage))) {
    const root = findLocalRoot(storage.url)
    // Where anything is at all, an unmounted disk is likelier than a new repository.
    if (root !== undefined && existsSync(root)) return done
    if (session === undefined || dataDirectory === undefined) return done
    storage = await create(examination, repository, ownerOf(dataDirectory))
    done.push(`created the repository ${storage.url}`)
  }
  if (session !== undefined) done.push(...(await introduce(examination, storage)))
  const leftovers = await storage.removeLeftovers()
  if (leftovers > 0) {
    done.push(
      `removed ${formatCount(leftovers, 'unfinished file')} of dead writers (${cluster.name})`,
    )
  }
  return done
}

async function create(
  { context }: Examination,
  repository: RepositoryConfiguration,
  owner: Owner,
): Promise<Storage> {
  const secret = await findSecret(repository, context.env)
  const place = { ...resolveStorage(repository, context.env), owner }
  const storage = await openStorage(place)
  await createRepository(storage, now(), secret !== undefined)
  return await openWithFirstKey(place, storage, secret)
}

/** TM1503: nothing there; TM1507: its place is not there. */
async function isRepository(storage: Storage): Promise<boolean> {
  try {
    await openRepository(storage)
    return true
  } catch (error) {
    if (isFailure(error, 'TM1503') || isFailure(error, 'TM1507')) return false
    throw error
  }
}

/** Only where the name is free: another server under it is a decision for a person. */
async function introduce(examination: Examination, storage: Storage): Promise<string[]> {
  const { session, cluster } = examination
  if (session === undefined) return []
  const { facts } = session
  const known = await listSystemIdentities(storage, cluster.name)
  const id = String(facts.systemIdentifier)
  if (known.some(({ systemIdentifier }) => systemIdentifier === id)) return []
  if (known.length > 0) {
    throw new Failure('TM1007', {
      message: `${storage.url} knows another server as '${cluster.name}'`,
      because: `that one is ${known.map((one) => one.systemIdentifier).join(', ')}, this one is ${id}`,
      fix: 'give this server a name of its own: tidemark init --name NAME',
    })
  }
  await ensureSystemIdentity(storage, cluster.name, {
    systemIdentifier: id,
    major: facts.version.major,
    walSegmentSizeBytes: facts.walSegmentSizeBytes,
    createdAt: now().toISOString(),
  })
  return [`introduced server ${id} as ${cluster.name} to ${storage.url}`]
}
