/** llama-server's own figures (Prometheus text): what runs, what waits, and what was computed so far. */

export interface ServerFigures {
  /** Requests that run, and those that wait for a place. */
  readonly active: number
  readonly queued: number
  /** Calls that computed a batch. */
  readonly steps: number
  readonly ptok: number
  readonly gtok: number
}

/** What is not there counts as 0: names come and go between builds. */
export function parseMetrics(text: string): ServerFigures {
  const figures = new Map<string, number>()
  for (const [, name = '', value = ''] of text.matchAll(/^llamacpp:(\w+)\s+(\S+)\s*$/gm))
    figures.set(name, Number(value))
  const figure = (name: string): number => {
    const value = figures.get(name) ?? 0
    return Number.isFinite(value) ? value : 0
  }
  return {
    active: figure('requests_processing'),
    queued: figure('requests_deferred'),
    steps: figure('n_decode_total') || figure('tokens_predicted_total') + figure('prompt_tokens_total'),
    ptok: figure('prompt_tokens_total'),
    gtok: figure('tokens_predicted_total'),
  }
}
