/** The shape of an entry of the list of failure codes. */
export interface FailureCodeEntry {
  /** Heading of the manual entry: the situation in a few words. */
  readonly title: string
  /** The manual's paragraph: when it happens, what is safe, what to do. */
  readonly manual: string
  readonly exitStatus: 1 | 2 | 3
}

/** Keeps the codes as literal keys. */
export const entry = <const T extends Record<string, FailureCodeEntry>>(codes: T): T => codes
