/** The objects of a dump, as its table of contents lists them. */

/** One entry that a restore would make; names as they are, not quoted. */
export interface DumpObject {
  /** The archive's own number of it. */
  readonly dumpId: number
  /** PostgreSQL's word: `TABLE`, `TABLE DATA`, `FK CONSTRAINT`. */
  readonly kind: string
  /** Empty where it lies in no schema. */
  readonly schema: string
  readonly name: string
  /** Empty where it has none. */
  readonly owner: string
}
