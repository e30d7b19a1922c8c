/**
 * All that an agent does about files of models: the shelf over its folder, the fetcher of what is missing there, and the
 * door at which other nodes get what is there.
 */
import { join } from 'node:path'
import { shapeOfModel } from '../../src/api/modelfiles/shape.ts'
import { messageOf } from '../../src/lib/errors.ts'
import type { Members } from '../members.ts'
import { DiskShelf } from '../models.ts'
import type { ModelsDoor } from './door.ts'
import { openDoor } from './door.ts'
import type { FetchDoors } from './doors.ts'
import { FILES_AT_ONCE, ModelFetcher } from './fetcher.ts'
import type { HubOptions, PeerCredentials } from './hub.ts'
import { checkEndpoint, hubRequests, peerDoors } from './hub.ts'
import { threadedTransfers } from './transfer/threads.ts'

type Given = Pick<FetchDoors, 'modelsDir' | 'bootId' | 'volume' | 'lock' | 'peersOf' | 'clock' | 'random' | 'log'>

export interface ModelsOptions extends Given {
  /** Of this node. */
  readonly name: string
  readonly dataDir: string
  /** Absent: this agent fetches nothing, and has nothing to hand on. */
  readonly hub: HubOptions | undefined
  /** Where the door listens. */
  readonly address: string
  /** Absent: the cluster has no identities. */
  readonly credentialsFile: string | undefined
  /** Read anew each time; absent with `credentialsFile`. */
  readonly credentials: (() => PeerCredentials) | undefined
  readonly members: Members
}

export interface Models {
  readonly shelf: DiskShelf
  readonly fetcher?: ModelFetcher
  readonly door?: ModelsDoor
}

/** OpError Invalid for a hub's address that is none. */
export async function openModels(options: ModelsOptions): Promise<Models> {
  const { dataDir, hub } = options
  const shelf = new DiskShelf({ ...options, cacheFile: join(dataDir, 'digests.json'), shapeOf: shapeOfModel })
  if (hub === undefined) return { shelf }
  const fetcher = fetcherOf(options, hub)
  tellShelf(fetcher, shelf, options)
  return { shelf, fetcher, door: await openDoor({ ...options, claims: fetcher.claims }) }
}

function fetcherOf(options: ModelsOptions, hub: HubOptions): ModelFetcher {
  const { name, credentials, clock } = options
  const endpoint = checkEndpoint(hub.endpoint)
  return new ModelFetcher({
    ...options,
    transfers: threadedTransfers({ clock, threadsMax: FILES_AT_ONCE }),
    request: hubRequests({ ...hub, endpoint }),
    endpoint,
    peers: { own: name, ...peerDoors(credentials) },
  })
}

/** What has come or gone, or is not needed any more, shows in the Node at once, not at the next scan. */
function tellShelf(fetcher: ModelFetcher, shelf: DiskShelf, { log }: ModelsOptions): void {
  let ended = ''
  fetcher.onChange(() => {
    const over = [...fetcher.states().values()].filter(({ kind }) => kind !== 'Fetching').length
    const now = [over, ...fetcher.usedFolders()].join(' ')
    if (now !== ended) void shelf.scan().catch((error) => log.warn('models scan failed', { error: messageOf(error) }))
    ended = now
  })
}
