/**
 * The models door: hands files of fetched models to other nodes, by sha256 and nothing else, and says which there are.
 * Only what a record of ours names is ever opened, under a plain name in its own folder; a file that is still coming is
 * handed on as it comes. Whoever fetches verifies.
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { constants } from 'node:fs'
import { open } from 'node:fs/promises'
import type { FileHandle } from 'node:fs/promises'
import { join } from 'node:path'
import { messageOf } from '../../src/lib/errors.ts'
import type { Logger } from '../../src/lib/log.ts'
import { openNodesDoor } from '../doorserver.ts'
import type { OpenDoor } from '../doorserver.ts'
import type { Members } from '../members.ts'
import type { Claims } from './claims.ts'
import { fetchedFolders, fileState, readRecord } from './folder.ts'
import { isFolderName, isSha256 } from './needed.ts'
import type { DoorList } from './peers.ts'

export interface DoorOptions {
  /** Under which other nodes reach this one. */
  readonly address: string
  /** Who this node is: with it every link of the node may be knocked at, by nodes of the cluster. Absent: loopback only. */
  readonly credentialsFile?: string | undefined
  readonly modelsDir: string
  readonly bootId: string
  readonly claims: Claims
  /** Whose certificates count. Absent: all of the cluster's nodes. */
  readonly members?: Members
  readonly log: Logger
}

export interface ModelsDoor extends OpenDoor {
  readonly address: string
}

/** Opens the door on a port of the system's choice. */
export async function openDoor(options: DoorOptions): Promise<ModelsDoor> {
  const door = await openNodesDoor({ ...options, name: 'models' }, (request, response) => {
    serve(options, request, response).catch((error: unknown) => {
      options.log.info('file not handed on', { error: messageOf(error) })
      response.destroy()
    })
  })
  return { address: options.address, ...door }
}

async function serve(options: DoorOptions, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const [, model] = /^\/v1\/models\/(.+)$/.exec(request.url ?? '') ?? []
  const [, sha256] = /^\/v1\/files\/([^/]+)$/.exec(request.url ?? '') ?? []
  if (model !== undefined && isFolderName(model)) return listModel(options, model, response)
  if (sha256 !== undefined && isSha256(sha256)) return sendFile(options, sha256, request, response)
  response.writeHead(404).end()
}

async function listModel({ modelsDir, bootId, claims }: DoorOptions, name: string, response: ServerResponse) {
  const dir = join(modelsDir, name)
  const files: Record<string, DoorList['files'][string]> = {}
  for (const [sha256, { state }] of claims.in(dir)) files[sha256] = state
  const record = await readRecord(dir, bootId)
  for (const file of record?.files ?? []) {
    if (record === undefined || file.sha256 === undefined) continue
    if ((await fileState(dir, record, file)).kind === 'Verified') files[file.sha256] = 'Here'
  }
  response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify({ files } satisfies DoorList))
}

async function sendFile(options: DoorOptions, sha256: string, request: IncomingMessage, response: ServerResponse) {
  const found = await findFile(options, sha256)
  if (found === undefined) return void response.writeHead(404).end()
  const { file, sizeBytes } = found
  try {
    const from = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? 0)
    if (from > sizeBytes) return void response.writeHead(416, { 'content-range': `bytes */${sizeBytes}` }).end()
    response.writeHead(from > 0 ? 206 : 200, {
      'content-length': sizeBytes - from,
      'content-type': 'application/octet-stream',
      ...(from > 0 ? { 'content-range': `bytes ${from}-${sizeBytes - 1}/${sizeBytes}` } : {}),
    })
    // The asker counts the silence from the headers on.
    response.flushHeaders()
    await pour(options.claims, sha256, { file, from, sizeBytes }, response)
  } finally {
    await file.close()
  }
}

interface OpenFile {
  readonly file: FileHandle
  readonly sizeBytes: number
}

/** A verified file of a record, or the part of one that is being fetched. */
async function findFile({ modelsDir, bootId, claims }: DoorOptions, sha256: string): Promise<OpenFile | undefined> {
  const claim = claims.get(sha256)
  if (claim?.state === 'Hub') {
    // Under its own name already, when it is whole and its seal is being written.
    const path = join(claim.dir, claim.name)
    const file = (await openPlain(`${path}.part`)) ?? (await openPlain(path))
    if (file !== undefined) return { file, sizeBytes: claim.sizeBytes }
  }
  for (const dir of await fetchedFolders(modelsDir)) {
    const record = await readRecord(dir, bootId)
    const named = record?.files.find((file) => file.sha256 === sha256)
    if (record === undefined || named === undefined) continue
    if ((await fileState(dir, record, named)).kind !== 'Verified') continue
    const file = await openPlain(join(dir, named.name))
    if (file !== undefined) return { file, sizeBytes: named.sizeBytes }
  }
  return undefined
}

/** No link is followed, for it could lead anywhere; undefined: there is no such plain file. */
async function openPlain(path: string): Promise<FileHandle | undefined> {
  const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW).catch(() => undefined)
  if (file === undefined || (await file.stat()).isFile()) return file
  await file.close()
  return undefined
}

const CHUNK_BYTES = 2 ** 20

/** Sends [from, sizeBytes) of the file; waits where it is still coming. Rejects when it comes no more. */
async function pour(
  claims: Claims,
  sha256: string,
  { file, from, sizeBytes }: OpenFile & { readonly from: number },
  response: ServerResponse,
): Promise<void> {
  const gone = new Promise<void>((resolve) => response.once('close', resolve))
  for (let at = from; at < sizeBytes;) {
    // Before the reading, so that no change is missed.
    const change = claims.get(sha256) === undefined ? undefined : claims.next(sha256)
    const buffer = Buffer.allocUnsafe(Math.min(CHUNK_BYTES, sizeBytes - at))
    const { bytesRead } = await file.read(buffer, 0, buffer.byteLength, at)
    if (response.destroyed) return
    if (bytesRead > 0) {
      at += bytesRead
      if (!response.write(buffer.subarray(0, bytesRead))) await Promise.race([drained(response), gone])
    } else if (change === undefined) {
      throw new Error(`${sha256} comes no more, ${sizeBytes - at} bytes are missing`)
    } else {
      await Promise.race([change, gone])
    }
  }
  response.end()
}

const drained = (response: ServerResponse): Promise<void> =>
  new Promise((resolve) => void response.once('drain', resolve))
