/**
 * Takes a dump: the story in order (docs/design/dumps.md, sections 3 and 5).
 *
 * Invariant: the record is written only after every tool has ended well, what it wrote was
 * taken to its last byte, and each snapshot still stood when its tool had ended. Anything
 * else removes what was written and throws.
 */
import { now } from '../base/clock.ts'
import type { Progress } from '../base/progress.ts'
import { Targets } from '../backup/targets.ts'
import { makeBackupId } from '../repository/keys.ts'
import { openRepository } from '../repository/repository.ts'
import { dumpAll, isCompressible, prepareDump } from './dump-all.ts'
import type { DumpContext, DumpResult, TakeDumpOptions } from './dump-context.ts'
import { type DumpWriter, openDumpWriter } from './write-dump.ts'

export async function takeDump(
  options: TakeDumpOptions,
  progress: Progress,
  signal: AbortSignal,
): Promise<DumpResult> {
  progress.phase('connecting')
  const prepared = await prepareDump(options)
  signal.throwIfAborted()
  const targets = new Targets(options.targets)
  const repositories = await targets.group.gather(openRepository)
  const areEncrypted = [...repositories.values()].every(({ isEncrypted }) => isEncrypted)
  const startedAt = now()
  const writer = await openDumpWriter({
    group: targets.group,
    cluster: options.cluster,
    id: makeBackupId(startedAt),
    startedAt,
    databases: prepared.databases,
    format: options.format,
    signal,
    rewrite: options.rewrite,
  })
  const rolePasswords = options.rolePasswords ?? areEncrypted
  const shared = { ...prepared, rolePasswords, writer, progress, signal }
  // Frames are compressed once, and what the tool has compressed would not come again.
  const compression = isCompressible(options.format) ? ['--compress=0'] : []
  return await dumpAndPublish({ ...shared, compression }, options, targets)
}

async function dumpAndPublish(
  context: DumpContext & { readonly writer: DumpWriter },
  { labels }: TakeDumpOptions,
  targets: Targets,
): Promise<DumpResult> {
  const { writer, notes, progress } = context
  try {
    const facts = { ...(await dumpAll(context)), labels }
    progress.phase('writing the record')
    const published = await writer.publish(facts)
    for (const target of published.stored) targets.noteStored(target)
    return {
      record: published.record,
      notes: [...notes, ...published.notes],
      targets: targets.report(),
    }
  } catch (error) {
    // What could not be removed now is removed by the next dump: the hold names this process.
    await writer.abort().catch(() => undefined)
    throw error
  }
}
