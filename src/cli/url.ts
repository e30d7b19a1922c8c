/** A manifest from the web: `-f https://…`. Bounded in size and time, for nobody knows who answers. */
import { MAX_FILE_BYTES } from '../api/yaml.ts'
import { sleep } from '../lib/clock.ts'
import { messageOf } from '../lib/errors.ts'
import type { Cli } from './context.ts'
import { CliError } from './context.ts'

const LIMIT_MS = 30_000

export const isUrl = (path: string): boolean => /^https?:\/\//i.test(path)

/** CliError says which address, what was wrong, and what to do. */
export async function contentAt(cli: Cli, url: string): Promise<Uint8Array> {
  if (!URL.canParse(url))
    throw new CliError(`read ${url}: this is no address: use for example https://example.org/chat.yaml`)
  const { username, password } = new URL(url)
  // It would stand in errors, in the shell's history, and in lists of processes.
  if (username !== '' || password !== '')
    throw new CliError(
      'read an address with a name and password in it: fetch it with a program of your own, and give it with -f -',
    )
  const over = new AbortController()
  const limit = AbortSignal.any([over.signal, cli.signal])
  let late = false
  void sleep(cli.clock, LIMIT_MS, over.signal).then(() => {
    late = !over.signal.aborted
    over.abort()
  })
  try {
    const response = await fetch(url, {
      signal: limit,
      headers: { accept: 'application/yaml, application/json, text/plain, */*' },
    })
    if (!response.ok)
      throw new CliError(`read ${url}: the server answered ${response.status} ${response.statusText}`.trimEnd())
    return await bodyOf(url, response)
  } catch (error) {
    if (error instanceof CliError) throw error
    if (late) throw new CliError(`read ${url}: it took longer than ${LIMIT_MS / 1000} s`)
    throw new CliError(`read ${url}: ${messageOf(error)}`)
  } finally {
    over.abort()
  }
}

async function bodyOf(url: string, response: Response): Promise<Uint8Array> {
  const chunks: Uint8Array[] = []
  let bytes = 0
  for await (const chunk of response.body ?? []) {
    chunks.push(chunk as Uint8Array)
    bytes += (chunk as Uint8Array).byteLength
    if (bytes >= MAX_FILE_BYTES)
      throw new CliError(
        `read ${url}: it is too large, a file must be less than ${MAX_FILE_BYTES} bytes; split it into several`,
      )
  }
  return Buffer.concat(chunks)
}
