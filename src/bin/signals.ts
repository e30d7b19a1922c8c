/** SIGINT and SIGTERM as values: the first asks to stop, the second to hurry. */

export interface Signals {
  readonly first: AbortSignal
  readonly second: AbortSignal
  /** Resolves at the first signal, or when the process that started us with an IPC channel is gone. */
  stopped(): Promise<void>
}

export function watchSignals(): Signals {
  const first = new AbortController()
  const second = new AbortController()
  const onSignal = () => (first.signal.aborted ? second : first).abort()
  process.on('SIGINT', onSignal)
  process.on('SIGTERM', onSignal)
  return { first: first.signal, second: second.signal, stopped: () => aborted(first.signal) }
}

export const aborted = (signal: AbortSignal): Promise<void> =>
  new Promise((resolve) =>
    signal.aborted ? resolve() : signal.addEventListener('abort', () => resolve(), { once: true }),
  )
