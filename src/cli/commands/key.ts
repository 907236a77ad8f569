/** `key list`, `key add`, `key remove` and `key rotate`: who opens an encrypted repository. */
import { now } from '../../base/clock.ts'
import { type Failure, isFailure } from '../../base/failure.ts'
import type { EncryptionConfiguration } from '../../config/configuration.ts'
import { resolveEncryption } from '../../config/resolve-encryption.ts'
import {
  addSlot,
  lastSlot,
  listRemoved,
  readKeyState,
  removeSlot,
  type Rotation,
  rotateDataKey,
} from '../../repository/change-keys.ts'
import { settleJournals } from '../../receive/settle-journals.ts'
import {
  findOlderKey,
  type RewriteResult,
  rewriteObjects,
} from '../../repository/rewrite-objects.ts'
import type { Sealing } from '../../storage/data-keys.ts'
import { openSealedStorage } from '../../storage/sealed-storage.ts'
import type { Storage } from '../../storage/storage.ts'
import type { CommandContext } from '../command-context.ts'
import { formatBytes, formatCount } from '../format-units.ts'
import { wrongUsage } from '../program.ts'
import { readEncryptionOptions } from './init/ask.ts'
import { formatKeys, keysJson, measureKeys, shownLabel } from './key/describe-keys.ts'
import { type OpenedKeys, openKeys, unlockWithout } from './key/open-keys.ts'

export interface KeyOptions {
  readonly repository?: string
}

export interface KeyAddOptions extends KeyOptions {
  readonly passphrase?: string
  readonly keyFile?: string
  readonly keyCommand?: string
  readonly label?: string
}

const EXIT_PROBLEM = 3

export async function runKeyList(context: CommandContext, options: KeyOptions): Promise<number> {
  const opened = await openKeys(context, options.repository)
  const { storage, sealing, repository } = opened
  const state = await readKeyState(storage, sealing)
  const uses = await measureKeys(storage, sealing, state, context.progress)
  context.progress.end()
  const described = { repository, state, uses, own: sealing.slotId }
  if (context.json) context.terminal.printJson(await keysJson(storage, described))
  else {
    for (const line of await formatKeys(storage, described, context.terminal.colours)) {
      context.terminal.print(line)
    }
  }
  return state.damaged.length + uses.unreadable === 0 ? 0 : EXIT_PROBLEM
}

export async function runKeyAdd(context: CommandContext, options: KeyAddOptions): Promise<number> {
  const said = readEncryptionOptions(options)
  if (said === undefined) {
    throw wrongUsage(
      'no key is given',
      'a slot is made for a passphrase, a key file or a key command',
      'add one: --passphrase file:/path, --key-file /path or --key-command …',
    )
  }
  const opened = await openKeys(context, options.repository)
  const { storage, sealing, repository } = opened
  const secret = await resolveEncryption(said, optionOf(said), context.env)
  const label = options.label ?? ''
  const slot = await addSlot(storage, sealing, { secret, label, createdAt: now() })
  const { terminal } = context
  if (context.json) {
    terminal.printJson({ repository: repository.name, slot: slot.id, kind: slot.kind, label })
  } else terminal.print(`slot ${terminal.colours.bold(slot.id)} opens ${repository.name}`)
  return 0
}

/** For messages. */
function optionOf({ passphrase, keyFile }: EncryptionConfiguration): string {
  if (passphrase !== undefined) return '--passphrase'
  return keyFile === undefined ? '--key-command' : '--key-file'
}

export async function runKeyRemove(
  context: CommandContext,
  slot: string,
  options: KeyOptions,
): Promise<number> {
  const opened = await openKeys(context, options.repository)
  const { storage, repository } = opened
  const sealing = await openByAnother(opened, slot)
  await removeSlot(storage, sealing, slot)
  const { terminal } = context
  if (context.json) terminal.printJson({ repository: repository.name, removed: slot })
  else {
    terminal.print(`slot ${slot} is removed`)
    terminal.remark('what is written from now on is kept from its holder by: tidemark key rotate')
  }
  return 0
}

/** The slot that opened this run is not removed by it, unless its secret opens another one. */
async function openByAnother(opened: OpenedKeys, slot: string): Promise<OpenedKeys['sealing']> {
  if (opened.sealing.slotId !== slot) return opened.sealing
  try {
    return await unlockWithout(opened, slot)
  } catch (error) {
    const isOther = isFailure(error) && ['TM1522', 'TM1526', 'TM1606'].includes(error.code)
    if (!isOther) throw error
    throw lastSlot(slot, 'it is the one that the configuration opens the repository with')
  }
}

export async function runKeyRotate(
  context: CommandContext,
  options: KeyOptions & { readonly rewrite?: boolean },
): Promise<number> {
  const opened = await openKeys(context, options.repository)
  const { storage, sealing } = opened
  const isRewriting = options.rewrite === true
  const rewrite = async (by: Sealing): Promise<RewriteResult> => {
    const sealed = openSealedStorage(storage, by)
    const settled = await settleJournals(sealed, context.signal)
    const result = await rewriteObjects(sealed, context.progress, context.signal)
    return { ...result, objects: result.objects + settled }
  }
  let result: RewriteResult | undefined
  if (isRewriting && (await findRest(storage, sealing)) !== undefined) {
    context.terminal.remark('older keys still seal something: that is ended, without another key')
    result = await rewrite(sealing)
  }
  let rotation: Rotation | undefined
  // What is damaged under an older key stays there, and is nothing to be ended.
  if (result === undefined || result.objects + result.left === 0) {
    rotation = await rotateDataKey(storage, sealing, now())
    if (!context.json) printRotation(context, opened, rotation)
    result = isRewriting ? await rewrite(rotation.sealing) : undefined
  }
  context.progress.end()
  if (context.json) printJson(context, opened, rotation, result)
  else if (result !== undefined) printRewrite(context, result)
  return result !== undefined && result.damaged.length > 0 ? EXIT_PROBLEM : 0
}

/**
 * What an interrupted rewrite has left, if any. With a slot that was removed since the newest
 * key was made, that one is to be replaced first.
 */
async function findRest(storage: Storage, sealing: Sealing): Promise<string | undefined> {
  if (listRemoved(await readKeyState(storage, sealing)).length > 0) return undefined
  return await findOlderKey(openSealedStorage(storage, sealing))
}

function printRotation(
  { terminal }: CommandContext,
  { repository }: OpenedKeys,
  { key, slots, left }: Rotation,
): void {
  const { generation, id } = key
  terminal.print(
    `what is written to ${repository.name} is sealed with key ${id} (generation ${generation}) now`,
  )
  const names = slots.map((slot) => `${slot.id} (${slot.kind}, '${shownLabel(slot.label)}')`)
  terminal.print(`  it is opened by ${names.join(', ')}`)
  for (const { slot, because } of left) {
    terminal.print(terminal.colours.yellow(`  not by ${slot}: ${because}`))
  }
}

function printRewrite({ terminal }: CommandContext, result: RewriteResult): void {
  const { objects, bytes, damaged, left, journals } = result
  terminal.print(`sealed anew: ${formatCount(objects, 'object')}, ${formatBytes(bytes)}`)
  for (const failure of damaged) {
    terminal.print(terminal.colours.red(`  ${failure.message}: ${failure.because ?? ''}`))
  }
  if (left > 0) {
    const what = `${formatCount(left, 'object')} ${left === 1 ? 'is' : 'are'} left`
    terminal.print(`  ${what}, which something else is working on: run it again`)
  }
  if (journals > 0) {
    const [stay, them] = journals === 1 ? ['stays', 'it'] : ['stay', 'them']
    const what = `${formatCount(journals, 'journal')} of received WAL ${stay} under an older key`
    const until = `which opens ${them} until the segment is complete (tidemark key list)`
    terminal.print(terminal.colours.yellow(`  ${what}, ${until}`))
  }
}

function printJson(
  { terminal }: CommandContext,
  { repository }: OpenedKeys,
  rotation: Rotation | undefined,
  result: RewriteResult | undefined,
): void {
  terminal.printJson({
    repository: repository.name,
    rotated:
      rotation === undefined
        ? null
        : {
            generation: rotation.key.generation,
            keyId: rotation.key.id,
            slots: rotation.slots.map(({ id }) => id),
            left: rotation.left,
          },
    rewritten:
      result === undefined
        ? null
        : {
            objects: result.objects,
            bytes: result.bytes,
            left: result.left,
            journals: result.journals,
            damaged: result.damaged.map(describeDamage),
          },
  })
}

function describeDamage({ code, message, because }: Failure) {
  return { code, message, because: because ?? null }
}
