/**
 * Opens packs and tells how much of them is dead, and which records lie in them.
 *
 * Invariant: the record of a backup that is neither there nor expired is a lost one: it and all
 * that it names stay, so that the catalogue can be rebuilt.
 */
import { isFailure } from '../../base/failure.ts'
import type { Progress } from '../../base/progress.ts'
import { FRAME_KINDS } from '../../repository/pack-format.ts'
import { openPack, type PackReader } from '../../repository/pack-reader.ts'
import type { Storage } from '../../storage/storage.ts'
import type { LiveFrames } from '../find-live-frames.ts'
import type { PackSurvey } from '../plan-repacking.ts'

const OPENED_AT_ONCE = 8

export interface SurveyOptions {
  readonly storage: Storage
  readonly cluster: string
  readonly packs: ReadonlySet<string>
  /** Packs that no backup names: only looked at for records that were lost. */
  readonly unnamed: ReadonlySet<string>
  readonly live: LiveFrames
  /** Ids of the backups that are there. */
  readonly known: ReadonlySet<string>
  readonly expired: ReadonlySet<string>
  readonly progress: Progress
  readonly signal: AbortSignal
}

export interface Survey {
  readonly surveys: readonly PackSurvey[]
  /** By backup: the pack that its record lies in. */
  readonly lostRecords: ReadonlyMap<string, string>
  readonly damaged: readonly string[]
  /** Expired backups whose records lie in packs that no backup names: those are locked yet. */
  readonly leftCopies: ReadonlySet<string>
}

export async function surveyPacks(options: SurveyOptions): Promise<Survey> {
  const { packs, unnamed, progress, signal } = options
  const surveys: PackSurvey[] = []
  const lostRecords = new Map<string, string>()
  const needed = new Set<string>()
  const damaged: string[] = []
  const leftCopies = new Set<string>()
  const ids = [...packs, ...unnamed]
  for (let first = 0; first < ids.length; first += OPENED_AT_ONCE) {
    signal.throwIfAborted()
    const some = ids.slice(first, first + OPENED_AT_ONCE)
    const looks = await Promise.all(some.map(async (id) => await lookAt(options, id)))
    for (const [number, look] of looks.entries()) {
      if (look === undefined) damaged.push(some[number] as string)
      else if (packs.has(look.survey.packId)) surveys.push(look.survey)
      else for (const id of look.expired) leftCopies.add(id)
      for (const { id, packs: its } of look?.lost ?? []) {
        lostRecords.set(id, look?.survey.packId ?? '')
        for (const pack of its) needed.add(pack)
      }
    }
    progress.advance(some.length)
  }
  const kept = surveys.map((survey) => (needed.has(survey.packId) ? keepWhole(survey) : survey))
  return { surveys: kept, lostRecords, damaged, leftCopies }
}

function keepWhole(survey: PackSurvey): PackSurvey {
  return { ...survey, deadBytes: 0, isKeptWhole: true }
}

interface StoredRecord {
  readonly id: string
  readonly packs: readonly string[]
}

interface Look {
  readonly survey: PackSurvey
  readonly lost: readonly StoredRecord[]
  /** Ids of the expired backups whose records lie in it. */
  readonly expired: readonly string[]
}

/** Undefined: the pack is damaged or gone, or a record in it cannot be read. */
async function lookAt(options: SurveyOptions, packId: string): Promise<Look | undefined> {
  const { storage, cluster, live, known, expired } = options
  try {
    const pack = await openPack(storage, cluster, packId, 'repacking')
    const expiredRecords: number[] = []
    const expiredIds: string[] = []
    const lost: StoredRecord[] = []
    let deadBytes = 0
    for (const [ordinal, { kind, storedLength }] of pack.frames.entries()) {
      if (!pack.holdsFrame(ordinal)) continue
      if (kind === FRAME_KINDS.record) {
        const record = await readRecord(pack, ordinal)
        if (record === undefined) return undefined
        if (expired.has(record.id) && !known.has(record.id)) {
          expiredRecords.push(ordinal)
          expiredIds.push(record.id)
        } else if (!known.has(record.id)) lost.push(record)
      } else if (!live.isLive(packId, ordinal)) deadBytes += storedLength
    }
    const { sizeBytes } = pack
    const isKeptWhole = live.isKeptWhole(packId)
    const survey = { packId, sizeBytes, deadBytes, expiredRecords, isKeptWhole }
    return { survey, lost, expired: expiredIds }
  } catch (error) {
    if (isFailure(error, 'TM1601') || isFailure(error, 'TM1602')) return undefined
    throw error
  }
}

async function readRecord(pack: PackReader, ordinal: number): Promise<StoredRecord | undefined> {
  try {
    const raw = await pack.readFrame(ordinal)
    const { id, packs } = JSON.parse(Buffer.from(raw).toString('utf8')) as {
      id: string
      packs: readonly { id: string }[]
    }
    return { id, packs: packs.map((each) => each.id) }
  } catch (error) {
    if (error instanceof SyntaxError || error instanceof TypeError) return undefined
    throw error
  }
}
