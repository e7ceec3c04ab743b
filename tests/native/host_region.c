/* A host with a parallel region of its own, from whose threads it calls back. */
void in_parallel(void (*call)(int), int threads)
{
    #pragma omp parallel for num_threads(threads) schedule(static, 1)
    for (int i = 0; i < threads; i++)
        call(i);
}
