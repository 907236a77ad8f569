/** Turns samples into the table of RESULTS.md. Pure. */
import type { ToolName } from './contestant.ts'
import { median } from './measure.ts'
import { CASES, type CaseName, type Sample } from './run-pairs.ts'

export interface ResultsHeading {
  readonly title: string
  /** `label: value` lines: versions, machine, commands. */
  readonly facts: readonly (readonly [label: string, value: string])[]
  /** Ours and what it is held against. */
  readonly tools: readonly [ToolName, ToolName]
}

/** What the project has promised itself: at most this share of pgbackrest's wall time. */
const TARGETS: Readonly<Record<CaseName, string>> = {
  full: 'wall ≤ 0.80',
  changed: 'wall ≤ 0.30, bytes ≤ 0.10',
  unchanged: 'wall ≤ 0.20, ≤ 0.1 MiB',
  restore: 'wall ≤ 0.85',
}

const LABELS: Readonly<Record<CaseName, string>> = {
  full: 'full backup',
  changed: 'incremental, 1 % changed',
  unchanged: 'incremental, unchanged',
  restore: 'restore',
}

/** Of an encrypted repository, against one that is not. */
const ENCRYPTED_TARGETS: Readonly<Record<CaseName, string>> = {
  full: 'wall ≤ 1.10',
  changed: 'wall ≤ 1.10',
  unchanged: 'wall ≤ 1.10',
  restore: '–',
}

const formatHead = ([ours, theirs]: ResultsHeading['tools']): string =>
  `| case | n | ${ours} s (min) | ${theirs} s (min) | ratio of walls (pairs) | target ` +
  '| cpu s | peak PSS MiB | MiB added or restored |\n' +
  '|---|---|---|---|---|---|---|---|---|\n'

export function formatResults(heading: ResultsHeading, samples: readonly Sample[]): string {
  const facts = heading.facts.map(([label, value]) => `- ${label}: ${value}\n`).join('')
  const cases = CASES.filter((name) => samples.some((sample) => sample.caseName === name))
  const { tools } = heading
  const rows = cases.map((caseName) => formatRow(caseName, samples, tools)).join('')
  return `## ${heading.title}\n\n${facts}\n${formatHead(tools)}${rows}`
}

function formatRow(
  caseName: CaseName,
  all: readonly Sample[],
  [first, second]: ResultsHeading['tools'],
): string {
  const of = (tool: ToolName): Sample[] =>
    all.filter((sample) => sample.caseName === caseName && sample.tool === tool)
  const ours = of(first)
  const theirs = of(second)
  const wall = (samples: readonly Sample[]): string => {
    const walls = samples.map((sample) => sample.wallSeconds)
    return `${median(walls).toFixed(2)} (${Math.min(...walls).toFixed(2)})`
  }
  const both = (pick: (sample: Sample) => number, digits: number): string =>
    [ours, theirs].map((samples) => median(samples.map(pick)).toFixed(digits)).join(' / ')
  const ratios = ours.map((sample) => sample.wallSeconds / pairOf(sample, theirs).wallSeconds)
  const cells = [
    LABELS[caseName],
    String(ours.length),
    wall(ours),
    wall(theirs),
    median(ratios).toFixed(2),
    (first === 'encrypted' ? ENCRYPTED_TARGETS : TARGETS)[caseName],
    both((sample) => sample.cpuSeconds, 2),
    both((sample) => sample.peakPssBytes / 2 ** 20, 0),
    both((sample) => sample.bytes / 2 ** 20, 2),
  ]
  return `| ${cells.join(' | ')} |\n`
}

function pairOf(sample: Sample, others: readonly Sample[]): Sample {
  const pair = others.find((other) => other.round === sample.round)
  if (pair === undefined) throw new Error(`round ${sample.round} has no pair`)
  return pair
}

/** Replaces the section of the same title, or adds it at the end. */
export function mergeSection(document: string, section: string): string {
  const title = section.slice(0, section.indexOf('\n') + 1)
  const start = document.indexOf(title)
  if (start < 0) return `${document.trimEnd()}\n\n${section}`
  const next = document.indexOf('\n## ', start + title.length)
  const rest = next < 0 ? '' : document.slice(next)
  return `${document.slice(0, start)}${section.trimEnd()}\n${rest}`
}
