/**
 * Creates a record under the hold of its writer.
 *
 * Invariant: no record stays whose hold was taken away before the record was there: an expiry may
 * have removed packs that it needs.
 */
import { type Failure, isFailure } from '../base/failure.ts'
import type { Storage } from '../storage/storage.ts'

export interface HeldPublication {
  /** For the report: `backup`, `dump`. */
  readonly what: string
  /** Key of the hold. */
  readonly hold: string
  /** Key of the record that create() creates. */
  readonly record: string
  /** Sees that all is there that the record names, and creates it. */
  readonly create: () => Promise<void>
  /** For a hold that was taken away. */
  readonly refuse: () => Failure
}

/**
 * Looks before, so that such a record is not even listed; and after, since the hold may have
 * gone in between. An expiry that begins when the record is there sees it. Returns sentences for
 * the report.
 */
export async function publishUnderHold(
  storage: Storage,
  { what, hold, record, create, refuse }: HeldPublication,
): Promise<string[]> {
  const isHeld = async (): Promise<boolean> => (await storage.size(hold)) !== undefined
  if (!(await isHeld())) throw refuse()
  await create()
  try {
    if (await isHeld()) return []
  } catch (error) {
    if (!isFailure(error)) throw error
    return [`whether the hold of this ${what} was still there could not be seen: ${error.message}`]
  }
  await storage.remove(record)
  throw refuse()
}
