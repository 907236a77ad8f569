/**
 * Unfinished objects: files in `.incoming/`, which no key can name. Their names tell who
 * writes them, so that those of dead writers can be told from those of living ones.
 *
 * Removing a living writer's file by mistake would cost that writer its attempt (link or
 * rename fails), never an object: an object's own name is not touched here.
 */
import { constants } from 'node:fs'
import { readdir, unlink } from 'node:fs/promises'
import { randomHex } from '../../base/random.ts'
import * as fs from 'node:fs'
import { promisify } from 'node:util'
import {
  formatProcessIdentity,
  judgeLiveness,
  lookUpStartTicks,
  parseProcessIdentity,
  type ProcessIdentity,
  readProcessIdentity,
} from '../process-identity.ts'
import { openFile } from './files.ts'
import { isAbsence, type RepositoryTree } from './tree.ts'

export const INCOMING = '.incoming'

const changeMode = promisify(fs.fchmod)
const changeOwner = promisify(fs.fchown)
const { O_WRONLY, O_CREAT, O_EXCL, O_NOFOLLOW } = constants

export interface IncomingFile {
  readonly fd: number
  readonly path: string
}

let self: ProcessIdentity | undefined

function ownIdentity(): ProcessIdentity {
  self ??= readProcessIdentity()
  return self
}

function incomingName(identity: ProcessIdentity, unique: string): string {
  return `w1.${formatProcessIdentity(identity)}.${unique}`
}

/** The writer that an unfinished object's name tells of; undefined for other files. */
function parseIncomingName(name: string): ProcessIdentity | undefined {
  const match = /^w1\.(.+)\.[0-9a-f]{16}$/.exec(name)
  return match === null ? undefined : parseProcessIdentity(match[1] as string)
}

export async function createIncomingFile(tree: RepositoryTree): Promise<IncomingFile> {
  const path = tree.path(`${INCOMING}/${incomingName(ownIdentity(), randomHex(8))}`)
  const fd = await openNew(tree, path)
  try {
    const { fileMode, owner } = await tree.policy()
    if ((fileMode & 0o070) !== 0) await changeMode(fd, fileMode)
    if (owner !== undefined) await changeOwner(fd, owner.uid, owner.gid)
  } catch (error) {
    fs.closeSync(fd)
    await unlink(path)
    throw error
  }
  return { fd, path }
}

async function openNew(tree: RepositoryTree, path: string): Promise<number> {
  const flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW
  try {
    await tree.ensureDirectory(INCOMING)
    return await openFile(path, flags, 0o600)
  } catch (error) {
    if (!isAbsence(error)) throw error
  }
  tree.forgetDirectories()
  await tree.ensureDirectory(INCOMING)
  return await openFile(path, flags, 0o600)
}

/** Removes what dead processes left behind; returns how many files that were. */
export async function removeDeadIncoming(tree: RepositoryTree): Promise<number> {
  const names = await namesOf(tree.path(INCOMING))
  let removed = 0
  for (const name of names) {
    const writer = parseIncomingName(name)
    if (writer === undefined) continue
    if (judgeLiveness(writer, ownIdentity(), lookUpStartTicks) !== 'dead') continue
    if (await removeFile(tree.path(`${INCOMING}/${name}`))) removed += 1
  }
  return removed
}

async function namesOf(directory: string): Promise<string[]> {
  try {
    return await readdir(directory)
  } catch (error) {
    if (isAbsence(error)) return []
    throw error
  }
}

/** False when it was gone already. */
export async function removeFile(path: string): Promise<boolean> {
  try {
    await unlink(path)
    return true
  } catch (error) {
    if (isAbsence(error)) return false
    throw error
  }
}
