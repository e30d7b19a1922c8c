/** Seeds shared among processes of `npm run sim`, and counted in one place. */
import { fork } from 'node:child_process'

/** A story that has ended; with its first finding, and where it is kept, if it ended badly. */
export interface Told {
  readonly seed: number
  readonly finding?: string
  readonly file?: string
}

export interface Share {
  readonly from: number
  readonly count: number
  readonly jobs: number
  /** Of the command line; what each process is given of the seeds comes after them, and so counts. */
  readonly flags: readonly string[]
}

/** Resolves when every process has told all of its stories. Rejects when one ends before. */
export async function runInProcesses({ from, count, jobs, flags }: Share, tell: (told: Told) => void): Promise<void> {
  const each = Math.ceil(count / jobs)
  const firsts = Array.from({ length: jobs }, (_, i) => i * each).filter((first) => first < count)
  const over = new AbortController()
  const runs = firsts.map((first) => {
    const seeds = ['--from', String(from + first), '--seeds', String(Math.min(each, count - first))]
    return runOne([...flags, ...seeds], over.signal, tell)
  })
  try {
    await Promise.all(runs)
  } finally {
    over.abort()
  }
}

function runOne(args: readonly string[], signal: AbortSignal, tell: (told: Told) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = fork(`${import.meta.dirname}/main.ts`, args, { signal })
    child.on('message', (message) => tell(message as Told))
    child.on('error', (error) => (signal.aborted ? resolve() : reject(error)))
    child.on('close', (code, by) =>
      code === 0 || signal.aborted ? resolve() : reject(new Error(`${args.join(' ')} ended with ${by ?? code}`)),
    )
  })
}

/** Counts stories, and says how far it is. */
export class Tally {
  readonly #all: number
  readonly #startMs = performance.now()
  readonly #failing: number[] = []
  #told = 0

  constructor(all: number) {
    this.#all = all
  }

  count({ seed, finding, file }: Told): void {
    this.#told++
    if (finding !== undefined) {
      this.#failing.push(seed)
      console.log(`seed ${seed}: ${finding}\n  kept in ${file ?? 'no file'}`)
    }
    if (this.#told % 100 === 0)
      console.error(`${this.#told} of ${this.#all} seeds, ${this.#rate()} per second, ${this.#failing.length} failing`)
  }

  /** The last lines; the exit code. */
  end(from: number): number {
    console.log(`${this.#told} seeds from ${from}: ${this.#failing.length} failing, ${this.#rate()} seeds per second`)
    if (this.#failing.length > 0) console.log(`failing seeds: ${this.#failing.sort((a, b) => a - b).join(' ')}`)
    return this.#failing.length === 0 ? 0 : 1
  }

  #rate(): string {
    return (this.#told / ((performance.now() - this.#startMs) / 1_000)).toFixed(1)
  }
}
