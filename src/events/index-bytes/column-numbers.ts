/** Numbers of the columns of both sections (docs/design/event-index.md, section 3). */
export const COLUMN = {
  relations: 1,
  shapes: 2,
  kinds: 3,
  xids: 4,
  places: 5,
  lengths: 6,
  times: 7,
  endShapes: 8,
  begins: 9,
  extras: 10,
  open: 11,
  others: 12,
  head: 13,
  rest: 14,
  /** Of the section of pages. */
  blocks: 2,
} as const
